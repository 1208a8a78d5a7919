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
