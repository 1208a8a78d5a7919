package gateway

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/fair"
	"github.com/braidstream/braid/wire"
)

// Fetch sessions (KIP-227): the client tells only what has changed since its
// last Fetch, and is told only the partitions that have something new.
//
// A session belongs to its connection and ends with it. A broker keeps sessions
// in one cache over all connections, where those of clients that are gone stay
// until they are evicted; a client that comes back by another connection begins a
// new one anyway. Each connection has at most maxSessions of them, the fleet's
// total per gateway is bounded and shared by tenants; when it is reached, fetches work without.

const (
	// maxSessions of one connection: clients use one.
	maxSessions = 4

	sessionInitial = int32(0)
	sessionFinal   = int32(-1)
)

// fetchKey names a partition within a session.
type fetchKey struct {
	name  string
	id    catalog.ID
	index int32
}

// fetchPart is one partition that a client fetches, and what it was told last.
// Only its connection's reader touches it, woken excepted.
type fetchPart struct {
	key  fetchKey
	name []byte // of key.name

	offset           int64
	maxBytes         int32
	leaderEpoch      int32
	lastFetchedEpoch int32

	st   *topicState // looked up anew when it is stale
	part *chain.Partition

	// What the client knows; a part is left out of an incremental answer as
	// long as nothing differs.
	highWatermark int64
	logStart      int64
	lastStable    int64

	// Of the request that is being served.
	code wire.Code
	job  *fetchJob // what was read, nil for nothing

	// idle: at idleAt there was nothing past the offset, and since then watch
	// would have told. Such a part needs no read.
	idle   bool
	idleAt time.Time
	woken  atomic.Bool
	wake   func()
	watch  func() // cancels the notification, nil if there is none
}

func newFetchPart(key fetchKey, p *wire.FetchPartition, wake func()) *fetchPart {
	fp := &fetchPart{key: key, name: []byte(key.name), highWatermark: -1, logStart: -1, lastStable: -1}
	fp.wake = func() {
		fp.woken.Store(true)
		wake()
	}
	fp.update(p)
	return fp
}

func (fp *fetchPart) update(p *wire.FetchPartition) {
	if fp.offset != p.Offset || fp.leaderEpoch != p.LeaderEpoch || fp.lastFetchedEpoch != p.LastFetchedEpoch {
		fp.unwatch()
	}
	fp.offset, fp.maxBytes = p.Offset, p.MaxBytes
	fp.leaderEpoch, fp.lastFetchedEpoch = p.LeaderEpoch, p.LastFetchedEpoch
}

// unwatch ends the notification.
func (fp *fetchPart) unwatch() {
	if fp.watch != nil {
		fp.watch()
		fp.watch = nil
	}
	fp.idle = false
	fp.woken.Store(false)
}

// drop gives back what the part holds of the request.
func (fp *fetchPart) drop() {
	if fp.job != nil {
		fp.job.release()
		fp.job = nil
	}
	fp.code = wire.None
}

// session is one fetch session. Only its connection's reader touches it.
type session struct {
	id    int32
	owner string // the tenant whose slots it has
	epoch int32  // of the next request
	byID  bool   // topics are named by id
	parts []*fetchPart
	index map[fetchKey]*fetchPart
	used  int64 // a count that orders the connection's sessions by use
	turn  int   // where the next read begins, so that no partition starves the others
}

// sessions are those of one connection.
type sessions struct {
	g    *Gateway
	list []*session
	uses int64
}

func (s *sessions) init(g *Gateway) { s.g = g }

// close ends all sessions.
func (s *sessions) close() {
	for len(s.list) > 0 {
		s.remove(s.list[0].id)
	}
}

func (s *sessions) find(id int32) *session {
	for _, x := range s.list {
		if x.id == id {
			return x
		}
	}
	return nil
}

func (s *sessions) remove(id int32) {
	for i, x := range s.list {
		if x.id == id {
			for _, fp := range x.parts {
				fp.unwatch()
			}
			s.g.sessionSlots.put(x.owner, 1, len(x.parts))
			s.list = append(s.list[:i], s.list[i+1:]...)
			return
		}
	}
}

// add makes a session of a tenant's parts, nil if there is no room.
func (s *sessions) add(owner string, parts []*fetchPart, byID bool) *session {
	if len(s.list) >= maxSessions {
		oldest := s.list[0]
		for _, x := range s.list {
			if x.used < oldest.used {
				oldest = x
			}
		}
		s.remove(oldest.id)
	}
	if !s.g.sessionSlots.take(owner, 1, len(parts)) {
		return nil
	}
	x := &session{id: s.newID(), owner: owner, epoch: 1, byID: byID, parts: parts, index: make(map[fetchKey]*fetchPart, len(parts))}
	for _, p := range parts {
		x.index[p.key] = p
	}
	s.touch(x)
	s.list = append(s.list, x)
	return x
}

func (s *sessions) touch(x *session) {
	s.uses++
	x.used = s.uses
}

// newID is never 0, which means no session.
func (s *sessions) newID() int32 {
	for {
		if id := rand.Int32(); id != 0 && s.find(id) == nil {
			return id
		}
	}
}

// advance sets the epoch that the next request has to carry.
func (x *session) advance() {
	if x.epoch++; x.epoch <= 0 {
		x.epoch = 1 // the initial epoch is not used twice
	}
}

// apply takes over what an incremental request adds, changes and forgets. false
// means that the session may not grow so far.
func (s *sessions) apply(x *session, req *wire.FetchRequest, wake func()) bool {
	var key fetchKey
	for t := range req.Topics {
		topic := &req.Topics[t]
		key.name, key.id = string(topic.Name), topic.ID
		for i := topic.First; i < topic.First+topic.Count; i++ {
			p := &req.Partitions[i]
			key.index = p.Index
			if fp := x.index[key]; fp != nil {
				fp.update(p)
				continue
			}
			if !s.g.sessionSlots.take(x.owner, 0, 1) {
				return false
			}
			fp := newFetchPart(key, p, wake)
			x.index[key] = fp
			x.parts = append(x.parts, fp)
		}
	}
	forgotten := 0
	for t := range req.Forgotten {
		topic := &req.Forgotten[t]
		key.name, key.id = string(topic.Name), topic.ID
		for _, p := range req.ForgottenPartitions[topic.First : topic.First+topic.Count] {
			key.index = p
			if fp, ok := x.index[key]; ok {
				fp.unwatch()
				delete(x.index, key)
				forgotten++
			}
		}
	}
	if forgotten > 0 {
		kept := x.parts[:0]
		for _, fp := range x.parts {
			if x.index[fp.key] == fp {
				kept = append(kept, fp)
			}
		}
		clear(x.parts[len(kept):])
		x.parts = kept
		s.g.sessionSlots.put(x.owner, 0, forgotten)
	}
	return true
}

// slots counts what sessions hold over all connections. Tenants share both as [fair.Room] has it: one that
// begins sessions without end, or of partitions that are not there, leaves some to the others.
type slots struct {
	sessions, parts *fair.Room
}

func newSlots(sessions, parts int, several func() bool) slots {
	return slots{fair.NewRoom(int64(sessions), several), fair.NewRoom(int64(parts), several)}
}

func (s *slots) take(owner string, sessions, parts int) bool {
	if sessions > 0 && !s.sessions.Take(owner, int64(sessions)) {
		return false
	}
	if parts > 0 && !s.parts.Take(owner, int64(parts)) {
		s.sessions.Put(owner, int64(sessions))
		return false
	}
	return true
}

func (s *slots) put(owner string, sessions, parts int) {
	s.sessions.Put(owner, int64(sessions))
	s.parts.Put(owner, int64(parts))
}
