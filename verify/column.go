package verify

// pageSize is how many entries a page of a column holds; a page is 32 KiB.
const pageSize = 4096

// A column is a growing array of int64 that never copies what it holds: a history of ten million
// records is two columns of 80 MB, with no moment at which one of them exists twice.
type column struct {
	pages []*[pageSize]int64
}

// at is the entry i, 0 where nothing was set.
func (c *column) at(i int64) int64 {
	p := int(i / pageSize)
	if p >= len(c.pages) {
		return 0
	}
	return c.pages[p][i%pageSize]
}

// set is for i up to one page past what was set before; callers bound i by what was sent.
func (c *column) set(i, v int64) {
	for int(i/pageSize) >= len(c.pages) {
		c.pages = append(c.pages, new([pageSize]int64))
	}
	c.pages[i/pageSize][i%pageSize] = v
}

// A bitset is a growing set of small numbers, 64 to an entry of its column.
type bitset struct{ words column }

func (b *bitset) has(i int64) bool { return b.words.at(i/64)>>(i%64)&1 == 1 }

// add says whether i was new.
func (b *bitset) add(i int64) bool {
	w := b.words.at(i / 64)
	if w>>(i%64)&1 == 1 {
		return false
	}
	b.words.set(i/64, w|1<<(i%64))
	return true
}
