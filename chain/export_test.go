package chain

import (
	"encoding/binary"
	"hash/crc32"
)

// ResealState gives any bytes a right checksum.
func ResealState(b []byte) []byte {
	if len(b) < 5 {
		return b
	}
	out := append([]byte(nil), b...)
	binary.BigEndian.PutUint32(out[len(out)-4:], crc32.Checksum(out[:len(out)-4], castagnoli))
	return out
}

// TailEnd is the first offset past what the tail cache holds, -1 when it is empty.
func (p *Partition) TailEnd() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tail.end()
}
