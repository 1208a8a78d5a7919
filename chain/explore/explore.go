package explore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"strings"
	"time"
	"unsafe"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// Bug is a fault that is planted to see that it is found.
type Bug string

// The planted bugs, each a rule of CORRECTNESS.md left out.
const (
	NoBug Bug = ""
	// EndAtHighWatermark takes the end of a sealed copy before all of its log is committed (finding 2).
	EndAtHighWatermark Bug = "the end is the high watermark at once"
	// StateBeforeSeal reads the producers' state before the seal holds (finding 1).
	StateBeforeSeal Bug = "producers' state from before the seal"
	// PipelineFresh sends several batches of a producer to a copy that does not know it (finding 4).
	PipelineFresh Bug = "pipelining at a fresh span"
	// NoSealedState does not judge first batches by the sealed state (finding 4).
	NoSealedState Bug = "sealed state ignored"
	// ReusePhysical extends onto a physical partition that was used before (finding 5).
	ReusePhysical Bug = "a physical partition used twice"
	// UnfencedCommit lets a controller commit that is no longer the leader and read an old chain (finding 6).
	UnfencedCommit Bug = "commit without comparing"
	// UnprovedEnd answers out of range from a snapshot that was not proved current (finding 3).
	UnprovedEnd Bug = "out of range unproved"
	// OvertakeAtSwitch sends to the next span before all answers of the last are in.
	OvertakeAtSwitch Bug = "switch before the answers are in"
	// JudgeByPast calls a batch out of order by a chain that is not proved current (finding 4).
	JudgeByPast Bug = "out of order by a past chain"
	// LateUnseal is an extend that is undone by unsealing, where an unseal may land after
	// its sender's leadership, and the extend that it undoes, are over. No cluster can
	// refuse it.
	LateUnseal Bug = "an unseal lands at any later time"
)

// Config bounds the walk.
type Config struct {
	Gateways, Producers, Batches, Window   int
	Moves, Takeovers, Crashes, Drops, Cuts int
	Cancels                                int
	Decide                                 Decider
	Bug                                    Bug
	MaxStates                              int // 0: none
	Progress                               func(states int)
}

// Bounds are the sizes of a walk in words.
func (c Config) Bounds() string {
	return fmt.Sprintf("%d controllers, %d gateways, %d producers of %d batches (%d in flight); at most %d moves, %d take-overs, %d cancels, %d crashes, %d connections cut to copies, %d to gateways",
		controllers, c.Gateways, c.Producers, c.Batches, c.Window, c.Moves, c.Takeovers, c.Cancels, c.Crashes, c.Cuts, c.Drops)
}

// Result is what a walk found.
type Result struct {
	States      int
	Transitions int
	Depth       int
	Complete    bool // every reachable state was visited
	Elapsed     time.Duration
	// Violation is the first broken invariant, with the events that lead to it.
	Violation string
	Trace     []string
}

func (r Result) String() string {
	s := fmt.Sprintf("%d states, %d transitions, depth %d, complete=%v, %v", r.States, r.Transitions, r.Depth, r.Complete, r.Elapsed.Round(time.Millisecond))
	if r.Violation != "" {
		s += "\nviolation: " + r.Violation + "\n  " + strings.Join(r.Trace, "\n  ")
	}
	return s
}

// explorer walks worlds.
type explorer struct {
	cfg Config
	ledger
	hash hasher
	fault
	out []step[world] // successors of the state that is expanded
}

// ledger numbers the versions of chains that a walk comes by.
type ledger struct {
	versions []version
	byKey    map[string]uint16
}

// Run walks all states that Config allows, depth first.
func Run(cfg Config) (Result, error) {
	if cfg.Gateways > maxGateways || cfg.Producers > maxProducers || cfg.Batches > maxBatches || cfg.Moves+1 > maxVersions ||
		cfg.Moves+cfg.Cancels+1 > maxCopies || cfg.Producers*cfg.Batches > maxLog {
		return Result{}, fmt.Errorf("the bounds exceed the model's")
	}
	if cfg.Decide == nil {
		cfg.Decide = Standard
	}
	e := &explorer{cfg: cfg, hash: newHasher(), ledger: ledger{byKey: map[string]uint16{}}}
	return search(e.begin(), e.key, e.visit, cfg.MaxStates, cfg.Progress), nil
}

func (e *explorer) visit(w *world, fresh func() bool, out []step[world]) ([]step[world], string) {
	e.bad, e.out = "", out
	e.settle(w)
	if !fresh() && e.bad == "" {
		return e.out, ""
	}
	e.check(w)
	if e.bad == "" {
		e.expand(w)
	}
	return e.out, e.bad
}

// key is a 128-bit hash of the state up to renaming of gateways and of
// controllers, which are alike. The state has no pointers and no padding.
func (e *explorer) key(w *world) [2]uint64 {
	var order [maxGateways]uint64
	for g := range uint8(e.cfg.Gateways) {
		order[g] = e.likeness(w, g)
	}
	n := *w
	n.rename(ranks(order[:e.cfg.Gateways]), w.swapped())
	return hashOf(&e.hash, &n)
}

// bytesOf is the memory of a value without pointers and padding.
func bytesOf[T comparable](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// ranks gives each gateway the name that it has once they are sorted by likeness. Those of
// one likeness are the same but for their names, so their order does not matter.
func ranks(likeness []uint64) (perm [maxGateways]uint8) {
	for g := range perm {
		perm[g] = uint8(g)
	}
	for g, l := range likeness {
		perm[g] = 0
		for h, m := range likeness {
			if m < l || m == l && h < g {
				perm[g]++
			}
		}
	}
	return perm
}

// likeness hashes all that a state holds of a gateway, but its name.
func (e *explorer) likeness(w *world, g uint8) uint64 {
	var all struct {
		own     gateway
		clients uint8 // whose connection it has, as bits
		fl      [maxFlights]flight
	}
	all.own = w.gws[g]
	for i := range w.cls {
		if w.cls[i].via == g {
			all.clients |= 1 << i
		}
	}
	n := 0
	for i := range w.fl {
		if f := &w.fl[i]; f.used && f.gateway == g {
			all.fl[n] = *f
			all.fl[n].gateway = 0
			n++
		}
	}
	return maphash.Bytes(e.hash[0], bytesOf(&all))
}

// swapped is 1 if the controllers change their names in the state that stands for
// this one and its likes.
func (w *world) swapped() uint8 {
	c := bytes.Compare(bytesOf(&w.ctl[0]), bytesOf(&w.ctl[1]))
	if c > 0 || c == 0 && w.leader == 1 {
		return 1
	}
	return 0
}

// rename gives gateway g the name perm[g], and swaps the controllers. The order
// of flights at different gateways does not matter, so they are sorted by
// gateway, each gateway's in their own order.
func (w *world) rename(perm [maxGateways]uint8, swap uint8) {
	gws := w.gws
	for g := range gws {
		w.gws[perm[g]] = gws[g]
	}
	for i := range w.cls {
		w.cls[i].via = perm[w.cls[i].via]
	}
	fl := w.fl
	n := 0
	for g := range uint8(maxGateways) {
		for i := range fl {
			if fl[i].used && perm[fl[i].gateway] == g {
				w.fl[n] = fl[i]
				w.fl[n].gateway = g
				n++
			}
		}
	}
	if swap == 1 {
		w.ctl[0], w.ctl[1] = w.ctl[1], w.ctl[0]
		w.leader = 1 - w.leader
	}
}

func (e *explorer) emit(w world, format string, args ...any) {
	e.out = append(e.out, step[world]{w, format, args})
}

func copyName(i uint8) catalog.Copy {
	var id catalog.ID
	id[0], id[1] = 1, i
	return catalog.Copy{Cluster: "k", Topic: fmt.Sprintf("t%d", i), TopicID: id}
}

// copyOf tells which physical partition a span lies on.
func copyOf(s *catalog.Span) uint8 { return s.Copies[0].TopicID[1] }

// intern gives a version its number.
func (e *ledger) intern(v version) uint16 {
	var k strings.Builder
	for i := range v.chain.Spans {
		s := &v.chain.Spans[i]
		fmt.Fprintf(&k, "%d:%d-%d@%d%v%v;", copyOf(s), s.Start, s.End, s.Epoch, s.Copies[0].Unreadable, s.Copies[0].Skip)
	}
	k.Write(chain.EncodeProducers(v.state))
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(v.chain.NextSeq))
	k.Write(n[:])
	if i, ok := e.byKey[k.String()]; ok {
		return i
	}
	i := uint16(len(e.versions))
	e.versions = append(e.versions, v)
	e.byKey[k.String()] = i
	return i
}

// at is a version of the chain as of its index in the world's history.
func (e *explorer) at(w *world, i uint8) *version {
	n := w.versions[i]
	return &e.versions[int(n[0])|int(n[1])<<8]
}

func (e *ledger) number(v version) [2]uint8 {
	i := e.intern(v)
	return [2]uint8{uint8(i), uint8(i >> 8)}
}

func (e *explorer) begin() world {
	var w world
	w.copies[0].exists = true
	w.created = 1
	w.versions[0] = e.number(version{chain: chain.New(copyName(0), 0, time.Time{})})
	w.nv = 1
	for i := range w.ctl {
		w.ctl[i].up = true
	}
	for i := range e.cfg.Gateways {
		w.gws[i].up = true
	}
	for i := range w.cls {
		for j := range w.cls[i].acked {
			w.cls[i].acked[j] = -1
		}
		w.cls[i].via = uint8(i % e.cfg.Gateways)
	}
	c := &e.cfg
	w.moves, w.takeovers, w.crashes = uint8(c.Moves), uint8(c.Takeovers), uint8(c.Crashes)
	w.drops, w.cuts, w.cancels = uint8(c.Drops), uint8(c.Cuts), uint8(c.Cancels)
	return w
}
