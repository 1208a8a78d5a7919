package verify

import (
	"sync"
	"time"
)

// A TxnHistory is what a transactional workload saw of several topics: the history of each, which
// record belongs to which transaction, how transactions ended, and what a group that consumes the first
// topic committed in them. It is recorded from many goroutines at once; a reader's events in their order.
//
// The order of calls for a transaction is Begin, then Wrote and Consumed, then one of Committed,
// Aborted, Unknown; without one of these its outcome is unknown. It takes some 50 bytes for each
// record written, and a bit for each reader.
type TxnHistory struct {
	// Grouped says that a group consumes the first topic in transactions, so that its offsets are judged. Set
	// it before the first event.
	Grouped bool

	topics []*History
	names  []string

	mu        sync.Mutex
	txns      []txn
	owners    []map[laneKey]*column // by topic: transaction + 1 of each value
	views     map[string]*view
	committed map[int32]int64 // the group's offsets at the end, by partition of topic 0
	observed  map[string]map[int32]int64
	backwards finding

	lastCommit time.Time
	pauses     durations
	latency    durations
}

// txn is one transaction.
type txn struct {
	producer int32
	outcome  outcome
	parts    []part
	consumed []Value // of topic 0
}

type part struct {
	topic int32
	value Value
}

type outcome int8

const (
	outcomeUnknown outcome = iota // a commit may have been asked for
	outcomeCommitted
	outcomeAborted // none was ever asked for
)

type laneKey struct{ producer, partition int32 }

// view is what one reader was given, of all topics.
type view struct {
	last []map[int32]int64 // by topic and partition: offset of the last record that it was given
	done []map[int32]bool  // it has read the partition to its end
	seen []map[laneKey]*bitset
}

// TxnTopic is a topic of a TxnHistory.
type TxnTopic struct {
	Name       string
	Partitions int
}

// NewTxnHistory makes the history of these topics.
func NewTxnHistory(topics ...TxnTopic) *TxnHistory {
	h := &TxnHistory{views: map[string]*view{}, committed: map[int32]int64{}, observed: map[string]map[int32]int64{}}
	for _, t := range topics {
		h.topics, h.names = append(h.topics, NewHistory(t.Partitions)), append(h.names, t.Name)
		h.owners = append(h.owners, map[laneKey]*column{})
	}
	return h
}

// Topic is the history of one topic: its final read is told there, and what was written outside of
// transactions. Reads are told to Polled.
func (h *TxnHistory) Topic(i int) *History { return h.topics[i] }

// Begin says that a producer begins a transaction, and returns its number.
func (h *TxnHistory) Begin(producer int32) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.txns = append(h.txns, txn{producer: producer})
	return int64(len(h.txns) - 1)
}

// Wrote says that a value is about to be sent in a transaction. See [History.Sent].
func (h *TxnHistory) Wrote(number int64, topic int, v Value) error {
	if err := h.topics[topic].Sent(v); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t := &h.txns[number]
	t.parts = append(t.parts, part{int32(topic), v})
	key := laneKey{v.Producer, v.Partition}
	owner := h.owners[topic][key]
	if owner == nil {
		owner = &column{}
		h.owners[topic][key] = owner
	}
	owner.set(v.Sequence, number+1)
	return nil
}

// Consumed says that a transaction is to commit an offset of the group past a value of the first topic.
func (h *TxnHistory) Consumed(number int64, v Value) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := &h.txns[number]
	t.consumed = append(t.consumed, v)
}

// Committed says that a commit was acknowledged. offsets are those that its records were acknowledged at, in
// the order in which they were told to Wrote; negative ones, and those that are missing, were not told. The times are of the
// transaction's begin and of the answer; zero times are left out of the statistics.
func (h *TxnHistory) Committed(number int64, offsets []int64, began, answered time.Time) error {
	parts := h.end(number, outcomeCommitted, began, answered)
	for i, p := range parts {
		at := int64(-1)
		if i < len(offsets) {
			at = offsets[i]
		}
		if err := h.topics[p.topic].Acked(p.value, at, time.Time{}, time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

// Aborted says that a commit was never asked for, and never will be: whether the abort was
// acknowledged does not matter.
func (h *TxnHistory) Aborted(number int64) error {
	for _, p := range h.end(number, outcomeAborted, time.Time{}, time.Time{}) {
		if err := h.topics[p.topic].Aborted(p.value); err != nil {
			return err
		}
	}
	return nil
}

func (h *TxnHistory) end(number int64, o outcome, began, answered time.Time) []part {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := &h.txns[number]
	t.outcome = o
	if !answered.IsZero() {
		h.latency.add(answered.Sub(began))
		if !h.lastCommit.IsZero() {
			h.pauses.add(max(0, answered.Sub(h.lastCommit)))
		}
		h.lastCommit = answered
	}
	return t.parts
}

// Polled says that a reader of committed records read a value. The reader is a consumer's name; what it reads of several
// topics is one view. member is for a member of the group: it begins anew after each assignment, and
// has no view.
func (h *TxnHistory) Polled(r Reader, topic int, partition int32, offset int64, v Value) {
	h.topics[topic].Polled(r, partition, offset, v)
	if r.Group != "" || v.Sequence < 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.view(r.Name)
	w.last[topic][partition] = max(w.last[topic][partition], offset)
	key := laneKey{v.Producer, v.Partition}
	if v.Partition != partition || h.owners[topic][key] == nil || h.owners[topic][key].at(v.Sequence) == 0 {
		return // of no transaction
	}
	if w.seen[topic][key] == nil {
		w.seen[topic][key] = &bitset{}
	}
	w.seen[topic][key].add(v.Sequence)
}

// Read says that a reader has read a partition to its end.
func (h *TxnHistory) Read(reader string, topic int, partition int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.view(reader).done[topic][partition] = true
}

func (h *TxnHistory) view(reader string) *view {
	w := h.views[reader]
	if w == nil {
		w = &view{}
		for range h.topics {
			w.last = append(w.last, map[int32]int64{})
			w.done = append(w.done, map[int32]bool{})
			w.seen = append(w.seen, map[laneKey]*bitset{})
		}
		h.views[reader] = w
	}
	return w
}

// Observed says that somebody was told a committed, stable offset of the group. One observer's
// observations of a partition come in the order in which it asked, and not at the same time.
func (h *TxnHistory) Observed(observer string, partition int32, offset int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.observed[observer]
	if was == nil {
		was = map[int32]int64{}
		h.observed[observer] = was
	}
	if last, ok := was[partition]; ok && offset < last {
		h.backwards.add(Example{Partition: partition, Offset: offset, OtherOffset: ref(last), Reader: observer})
	}
	was[partition] = offset
}

// GroupOffset says what the group has committed of a partition of the first topic at the end, when no
// transaction is open any more.
func (h *TxnHistory) GroupOffset(partition int32, offset int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.committed[partition] = offset
}
