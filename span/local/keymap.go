package local

import "hash/maphash"

// keyMap holds the last offset of each key, told apart by 128 bits of hash, in a
// table of fixed size: 24 bytes per slot, at most three of four slots in use.
type keyMap struct {
	slots []keySlot
	n     int
	a, b  maphash.Seed
}

type keySlot struct {
	hash   [2]uint64
	offset int64 // +1; 0: free
}

const keySlotSize = 24

// newKeyMap makes a table for so many keys, or for fewer that fit into so many bytes.
func newKeyMap(keys, bytes int64) *keyMap {
	size := 1
	for int64(size)*3/4 < keys && int64(2*size)*keySlotSize <= bytes {
		size *= 2
	}
	return &keyMap{slots: make([]keySlot, size), a: maphash.MakeSeed(), b: maphash.MakeSeed()}
}

// full tells that no more keys fit.
func (m *keyMap) full() bool { return m.n >= len(m.slots)*3/4 }

func (m *keyMap) find(key []byte) (slot *keySlot, hash [2]uint64) {
	hash = [2]uint64{maphash.Bytes(m.a, key), maphash.Bytes(m.b, key)}
	mask := uint64(len(m.slots) - 1)
	for i := hash[0] & mask; ; i = (i + 1) & mask {
		if s := &m.slots[i]; s.offset == 0 || s.hash == hash {
			return s, hash
		}
	}
}

// put notes that key was written at offset; false if there is no room.
func (m *keyMap) put(key []byte, offset int64) bool {
	s, hash := m.find(key)
	if s.offset == 0 {
		if m.full() {
			return false
		}
		m.n++
		s.hash = hash
	}
	s.offset = max(s.offset, offset+1)
	return true
}

// last returns the last offset of key, -1 if it is not there.
func (m *keyMap) last(key []byte) int64 {
	s, _ := m.find(key)
	return s.offset - 1
}
