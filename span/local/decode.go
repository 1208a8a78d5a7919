package local

import (
	"encoding/binary"
	"errors"
	"fmt"
)

var errMalformed = errors.New("malformed")

// decoder reads the variable parts of our formats. Once bad it stays so, and
// yields zeros. Nothing is allocated beyond what the input holds.
type decoder struct {
	b   []byte
	bad error
}

func (d *decoder) fail(what string) {
	if d.bad == nil {
		d.bad = fmt.Errorf("%w: %s", errMalformed, what)
	}
	d.b = nil
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads a number of at most limit.
func (d *decoder) count(limit uint64) int {
	v := d.uvarint()
	if v > limit {
		d.fail(fmt.Sprintf("count %d, at most %d", v, limit))
		return 0
	}
	return int(v)
}

// items reads a count of items that take at least size bytes each.
func (d *decoder) items(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.fail(fmt.Sprintf("%d items in %d bytes", n, len(d.b)))
		return 0
	}
	return int(n)
}

func (d *decoder) bytes(dst []byte) {
	if len(d.b) < len(dst) {
		d.fail("too short")
		return
	}
	copy(dst, d.b)
	d.b = d.b[len(dst):]
}

func (d *decoder) string(limit uint64) string {
	n := d.count(limit)
	if n > len(d.b) {
		d.fail("text is too short")
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) flag() bool { return d.uvarint() != 0 }

func (d *decoder) config() map[string]string {
	n := d.count(maxConfigs)
	m := make(map[string]string, min(n, len(d.b)/2))
	for range n {
		k := d.string(maxNameLength)
		m[k] = d.string(maxConfigValue)
		if d.bad != nil {
			return nil
		}
	}
	return m
}

func (d *decoder) end() error {
	if d.bad == nil && len(d.b) > 0 {
		d.fail(fmt.Sprintf("%d bytes too many", len(d.b)))
	}
	return d.bad
}
