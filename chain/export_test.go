package chain

import (
	"encoding/binary"
	"hash/crc32"
	"time"
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

// KeepShelf lets what readers share stay for d. Call it before the first read.
func (l *Logs) KeepShelf(d time.Duration) { l.shelf.keep = d }

// Shelved is how many bytes readers share.
func (l *Logs) Shelved() int64 {
	l.shelf.mu.Lock()
	defer l.shelf.mu.Unlock()
	return l.shelf.bytes
}
