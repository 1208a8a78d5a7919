package catalog

import "sync"

const (
	// freshPage bounds what a page carries of producers' states.
	freshPage = 8 << 10
	// freshKept bounds what a watcher keeps of what pages carried.
	freshKept = 4 << 20
)

// small gives the states that go along in the page: the first few that fit.
func small(states []StoredState) (out []StoredState) {
	size := 0
	for _, s := range states {
		if size += len(s.Ref) + len(s.Blob); size > freshPage {
			break
		}
		out = append(out, s)
	}
	return out
}

// fresh keeps the producers' states that came last with pages. Each is asked for
// within moments, by the partitions whose appends wait for it; the snapshots do
// without, since they are kept for as long as the topics are there.
type fresh struct {
	mu    sync.Mutex
	blobs map[string][]byte
	refs  []string // oldest first
	size  int
}

// take moves what a value carries here, if it is a page.
func (f *fresh) take(v any) {
	p, ok := v.(*Page)
	if !ok {
		return
	}
	states := p.Fresh
	p.Fresh = nil
	if len(states) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.blobs == nil {
		f.blobs = map[string][]byte{}
	}
	for _, s := range states {
		if _, ok := f.blobs[s.Ref]; ok || len(s.Blob) == 0 {
			continue
		}
		f.blobs[s.Ref] = s.Blob
		f.refs = append(f.refs, s.Ref)
		f.size += len(s.Ref) + len(s.Blob)
	}
	for f.size > freshKept {
		ref := f.refs[0]
		f.refs = f.refs[1:]
		f.size -= len(ref) + len(f.blobs[ref])
		delete(f.blobs, ref)
	}
}

// FreshProducers gives a producers' state that came with one of the last pages.
// Like what [Catalog.Producers] reads it is never changed.
func (w *Watcher) FreshProducers(ref string) ([]byte, bool) {
	w.fresh.mu.Lock()
	defer w.fresh.mu.Unlock()
	b, ok := w.fresh.blobs[ref]
	return b, ok
}
