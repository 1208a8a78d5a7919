package vfs

// pageSize is what contents share with each other, in bytes.
const pageSize = 4096

// content is the bytes of a file of [Mem], in pages that copies share until one of them writes: a crash
// copies every file twice, and most of a log's file is room that nobody wrote to.
type content struct {
	pages []*[pageSize]byte // nil: zeros
	mine  []bool            // pages that no copy has
	size  int64
}

// clone returns a copy. Neither of the two sees what is written to the other.
func (c *content) clone() content {
	clear(c.mine)
	return content{pages: append([]*[pageSize]byte(nil), c.pages...), mine: make([]bool, len(c.pages)), size: c.size}
}

// resize cuts the content, or extends it with zeros.
func (c *content) resize(size int64) {
	n := int((size + pageSize - 1) / pageSize)
	if size < c.size {
		clear(c.pages[n:])
		c.pages, c.mine = c.pages[:n], c.mine[:n]
		if from := size % pageSize; from > 0 && c.pages[n-1] != nil {
			clear(c.page(n - 1)[from:])
		}
	}
	for len(c.pages) < n {
		c.pages, c.mine = append(c.pages, nil), append(c.mine, false)
	}
	c.size = size
}

// page returns a page for writing.
func (c *content) page(i int) *[pageSize]byte {
	if !c.mine[i] {
		own := new([pageSize]byte)
		if c.pages[i] != nil {
			*own = *c.pages[i]
		}
		c.pages[i], c.mine[i] = own, true
	}
	return c.pages[i]
}

// read copies what is at that place and returns how many bytes those are.
func (c *content) read(b []byte, at int64) int {
	b = b[:max(0, min(int64(len(b)), c.size-at))]
	done := 0
	for done < len(b) {
		i, from := int((at+int64(done))/pageSize), (at+int64(done))%pageSize
		n := min(len(b)-done, int(pageSize-from))
		if p := c.pages[i]; p != nil {
			copy(b[done:done+n], p[from:])
		} else {
			clear(b[done : done+n])
		}
		done += n
	}
	return done
}

// write puts b there, and extends the content for it if need be.
func (c *content) write(b []byte, at int64) {
	if end := at + int64(len(b)); end > c.size {
		c.resize(end)
	}
	for len(b) > 0 {
		n := copy(c.page(int(at / pageSize))[at%pageSize:], b)
		b, at = b[n:], at+int64(n)
	}
}

// flip changes bits of a byte; one that is not there stays so.
func (c *content) flip(at int64, mask byte) {
	if at < c.size {
		c.page(int(at / pageSize))[at%pageSize] ^= mask
	}
}
