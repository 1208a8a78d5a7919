package fair

import "sync"

// Allows tells whether an owner that has own bytes of a room may have more. used is what
// all have together, and several tells whether there are other owners.
//
// Beside others an owner may have as much as is left free (dynamic thresholds: Choudhury
// and Hahne, 1998). So one that takes what it gets has half, the next half of the rest, and there is
// always room for who comes with nothing.
func Allows(own, used, most int64, several bool) bool {
	return used < most && (!several || own < most-used)
}

// Room is a bound in bytes, divided as [Allows] has it. Its methods may be called concurrently.
type Room struct {
	most    int64
	several func() bool

	mu   sync.Mutex
	used int64
	by   map[string]int64
}

// NewRoom makes a room. several tells whether there is more than one owner.
func NewRoom(most int64, several func() bool) *Room {
	return &Room{most: most, several: several, by: map[string]int64{}}
}

// Take takes n bytes if the owner may have them. An owner without any has what is there.
func (r *Room) Take(owner string, n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := r.by[owner]
	if r.used+n > r.most || own > 0 && !Allows(own+n-1, r.used, r.most, r.several()) {
		return false
	}
	r.add(owner, n)
	return true
}

// Force takes n bytes, beyond the bound if need be.
func (r *Room) Force(owner string, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(owner, n)
}

// Put gives n bytes back.
func (r *Room) Put(owner string, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(owner, -n)
}

func (r *Room) add(owner string, n int64) {
	r.used += n
	if r.by[owner] += n; r.by[owner] == 0 {
		delete(r.by, owner)
	}
}

// Used is what all owners have.
func (r *Room) Used() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used
}

// Of is what each owner has who has any.
func (r *Room) Of() map[string]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := make(map[string]int64, len(r.by))
	for owner, n := range r.by {
		of[owner] = n
	}
	return of
}
