package catalog

import (
	"iter"
	"maps"
	"slices"
	"sort"
	"sync/atomic"
)

// table is an immutable map by ID in 64 x 64 buckets: a change copies two small
// arrays and one bucket, whatever the size of the fleet. Nodes that the same edit
// has made are changed in place (their gen is the edit's).
type table[V any] struct {
	gen      uint64
	n        int
	branches *[64]*branch[V]
}

type branch[V any] struct {
	gen    uint64
	leaves [64]*leaf[V]
}

type leaf[V any] struct {
	gen uint64
	m   map[ID]V
}

var generations atomic.Uint64

func (t *table[V]) get(id ID) (v V, ok bool) {
	if t.branches == nil {
		return v, false
	}
	b := t.branches[id[15]&63]
	if b == nil {
		return v, false
	}
	l := b.leaves[id[14]&63]
	if l == nil {
		return v, false
	}
	v, ok = l.m[id]
	return v, ok
}

// writable gives the leaf of id, owned by the edit gen.
func (t *table[V]) writable(id ID, gen uint64) *leaf[V] {
	if t.branches == nil {
		t.branches, t.gen = new([64]*branch[V]), gen
	} else if t.gen != gen {
		c := *t.branches
		t.branches, t.gen = &c, gen
	}
	b := t.branches[id[15]&63]
	switch {
	case b == nil:
		b = &branch[V]{gen: gen}
	case b.gen != gen:
		b = &branch[V]{gen: gen, leaves: b.leaves}
	}
	t.branches[id[15]&63] = b
	l := b.leaves[id[14]&63]
	switch {
	case l == nil:
		l = &leaf[V]{gen: gen, m: map[ID]V{}}
	case l.gen != gen:
		l = &leaf[V]{gen: gen, m: maps.Clone(l.m)}
	}
	b.leaves[id[14]&63] = l
	return l
}

func (t *table[V]) set(id ID, v V, gen uint64) {
	l := t.writable(id, gen)
	if _, ok := l.m[id]; !ok {
		t.n++
	}
	l.m[id] = v
}

func (t *table[V]) remove(id ID, gen uint64) {
	if _, ok := t.get(id); !ok {
		return
	}
	delete(t.writable(id, gen).m, id)
	t.n--
}

func (t *table[V]) all() iter.Seq2[ID, V] {
	return func(yield func(ID, V) bool) {
		if t.branches == nil {
			return
		}
		for _, b := range t.branches {
			if b == nil {
				continue
			}
			for _, l := range b.leaves {
				if l == nil {
					continue
				}
				for id, v := range l.m {
					if !yield(id, v) {
						return
					}
				}
			}
		}
	}
}

// named is one entry of a nameList.
type named struct {
	name string
	id   ID
}

func (a named) compare(b named) int {
	switch {
	case a.name < b.name:
		return -1
	case a.name > b.name:
		return 1
	}
	return slices.Compare(a.id[:], b.id[:])
}

const nameRun = 512

// nameList holds a tenant's topic names in order, in runs of at most 512: an
// insertion copies one run and the list of runs. Immutable.
type nameList struct {
	runs [][]named
	n    int
}

// find gives the run that holds e or where it belongs, and the place in it.
func (l *nameList) find(e named) (run, at int, ok bool) {
	run = max(sort.Search(len(l.runs), func(i int) bool { return l.runs[i][0].compare(e) > 0 })-1, 0)
	if len(l.runs) == 0 {
		return 0, 0, false
	}
	at, ok = slices.BinarySearchFunc(l.runs[run], e, named.compare)
	return run, at, ok
}

func (l *nameList) insert(e named) *nameList {
	run, at, ok := l.find(e)
	if ok {
		return l
	}
	if len(l.runs) == 0 {
		return &nameList{runs: [][]named{{e}}, n: 1}
	}
	grown := slices.Insert(slices.Clone(l.runs[run]), at, e)
	runs := slices.Clone(l.runs)
	runs[run] = grown
	if len(grown) > nameRun {
		half := len(grown) / 2
		runs[run] = grown[:half:half]
		runs = slices.Insert(runs, run+1, grown[half:])
	}
	return &nameList{runs: runs, n: l.n + 1}
}

func (l *nameList) remove(e named) *nameList {
	run, at, ok := l.find(e)
	if !ok {
		return l
	}
	runs := slices.Clone(l.runs)
	if len(runs[run]) == 1 {
		runs = slices.Delete(runs, run, run+1)
	} else {
		runs[run] = slices.Delete(slices.Clone(runs[run]), at, at+1)
	}
	return &nameList{runs: runs, n: l.n - 1}
}

// from yields the entries from name on.
func (l *nameList) from(name string) iter.Seq[named] {
	return func(yield func(named) bool) {
		run, at, _ := l.find(named{name: name})
		for ; run < len(l.runs); run, at = run+1, 0 {
			for _, e := range l.runs[run][min(at, len(l.runs[run])):] {
				if !yield(e) {
					return
				}
			}
		}
	}
}
