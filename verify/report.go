package verify

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// A Report is the judgement over a history. Counts are of records unless they say otherwise. A
// record may count under several anomalies: one that was overwritten is lost, and its offset has
// two values.
type Report struct {
	Topic   string  `json:"topic,omitempty"`
	Seconds float64 `json:"seconds"` // the workload's, without the final read

	Sent         int64 `json:"sent"`
	Acknowledged int64 `json:"acknowledged"`
	Aborted      int64 `json:"aborted"`    // of aborted transactions
	Unknown      int64 `json:"unknown"`    // sent, and neither acknowledged nor surely refused
	Found        int64 `json:"found"`      // by the final read, each once
	Polled       int64 `json:"polled"`     // by the consumers, all together
	Foreign      int64 `json:"foreign"`    // records of others met on the way
	Unverified   int64 `json:"unverified"` // acknowledged, and the final read could not look there

	Lost         Anomaly `json:"lost"`         // acknowledged, or read before, and not there at the end
	Duplicated   Anomaly `json:"duplicated"`   // further offsets of a value
	Reordered    Anomaly `json:"reordered"`    // after a later value of the same producer
	Misplaced    Anomaly `json:"misplaced"`    // read, but not at the acknowledged offset
	Conflicting  Anomaly `json:"conflicting"`  // offsets that two values were acknowledged or read at
	NonMonotonic Anomaly `json:"nonMonotonic"` // a reader went back without a new assignment
	Skipped      Anomaly `json:"skipped"`      // there, and a reader or a group went past it
	Phantom      Anomaly `json:"phantom"`      // read, and never sent, or sent with other bytes
	AbortedRead  Anomaly `json:"abortedRead"`  // read, and of an aborted transaction

	// Repeated is Duplicated where producers are not idempotent, which Kafka allows.
	Repeated Anomaly `json:"repeated"`

	Pauses     Summary           `json:"pauses"`  // see PartitionReport
	Latency    Summary           `json:"latency"` // from send to acknowledgement
	Partitions []PartitionReport `json:"partitions"`

	// Problems are what clients met on the way, and what could not be done; a report with problems
	// may be clean, and then says less.
	Problems []string `json:"problems"`
}

// An Anomaly is how often one thing went wrong, with up to ten examples.
type Anomaly struct {
	Count    int64     `json:"count"`
	Examples []Example `json:"examples,omitempty"`
}

// An Example is one anomaly. Offset is where the record was read; of one that is lost, where it was
// acknowledged, or read before, and -1 when nobody said. OtherOffset is where it should have been
// (misplaced), was as well (duplicated), or where the reader was before (non-monotonic).
type Example struct {
	Topic       string `json:"topic,omitempty"` // where there are several
	Partition   int32  `json:"partition"`
	Offset      int64  `json:"offset"`
	Value       *Value `json:"value,omitempty"` // none when its bytes do not tell
	Other       *Value `json:"other,omitempty"` // the second value of an offset; the later value before it
	OtherOffset *int64 `json:"otherOffset,omitempty"`
	Reader      string `json:"reader,omitempty"`
	Transaction *int64 `json:"transaction,omitempty"` // its number in the run
	OtherTopic  string `json:"otherTopic,omitempty"`  // of Other
}

// PartitionReport is what concerns one partition.
type PartitionReport struct {
	Partition    int32 `json:"partition"`
	Sent         int64 `json:"sent"`
	Acknowledged int64 `json:"acknowledged"`
	Aborted      int64 `json:"aborted"`
	Unknown      int64 `json:"unknown"`
	Found        int64 `json:"found"`
	Polled       int64 `json:"polled"`
	Foreign      int64 `json:"foreign"`
	Unverified   int64 `json:"unverified"`
	// Verified says that the final read reached the end, and that no bound of the history was reached.
	Verified bool `json:"verified"`
	// Pauses are times in which something was outstanding and no acknowledgement came, one for each
	// acknowledgement.
	Pauses Summary `json:"pauses"`
}

// A Summary is of durations, in milliseconds. Quantiles are up to 1/16 too high.
type Summary struct {
	Count   uint64  `json:"count"`
	P50     float64 `json:"p50Ms"`
	P99     float64 `json:"p99Ms"`
	Longest float64 `json:"longestMs"`
}

func summary(d *durations) Summary {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return Summary{Count: d.total, P50: ms(d.quantile(0.5)), P99: ms(d.quantile(0.99)), Longest: ms(d.max)}
}

// NamedAnomaly is an anomaly with its name in the report.
type NamedAnomaly struct {
	Name string
	Anomaly
}

// Anomalies lists the anomalies that are faults of the endpoint, those that did not occur included.
func (r *Report) Anomalies() []NamedAnomaly {
	return []NamedAnomaly{
		{"lost", r.Lost}, {"duplicated", r.Duplicated}, {"reordered", r.Reordered}, {"misplaced", r.Misplaced},
		{"conflicting", r.Conflicting}, {"non-monotonic", r.NonMonotonic}, {"skipped", r.Skipped},
		{"phantom", r.Phantom}, {"aborted read", r.AbortedRead},
	}
}

// OK says that nothing went wrong in what could be verified.
func (r *Report) OK() bool {
	for _, a := range r.Anomalies() {
		if a.Count > 0 {
			return false
		}
	}
	return true
}

// Complete says that everything could be verified.
func (r *Report) Complete() bool {
	for _, p := range r.Partitions {
		if !p.Verified {
			return false
		}
	}
	return r.Unverified == 0
}

// String is the report for people, of several lines.
func (r *Report) String() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s "+format+"\n", append([]any{name}, args...)...)
	}
	if r.Topic != "" {
		line("topic", "%s, %d partitions, %.1f s", r.Topic, len(r.Partitions), r.Seconds)
	}
	line("sent", "%d", r.Sent)
	line("acknowledged", "%d", r.Acknowledged)
	if r.Unknown > 0 {
		line("unknown", "%d (sent, no answer)", r.Unknown)
	}
	if r.Aborted > 0 {
		line("aborted", "%d", r.Aborted)
	}
	line("found", "%d", r.Found)
	for _, a := range r.Anomalies() {
		line(a.Name, "%d", a.Count)
		for _, e := range a.Examples {
			fmt.Fprintf(&b, "%15s%s\n", "", e)
		}
	}
	if r.Repeated.Count > 0 {
		line("repeated", "%d (allowed: the producers are not idempotent)", r.Repeated.Count)
	}
	if r.Foreign > 0 {
		line("foreign", "%d (records of others)", r.Foreign)
	}
	if !r.Complete() {
		var open []string
		for _, p := range r.Partitions {
			if !p.Verified {
				open = append(open, fmt.Sprint(p.Partition))
			}
		}
		line("unverified", "%d", r.Unverified)
		if len(open) > 0 {
			line("", "partitions %s could not be read to the end", strings.Join(open, ", "))
		}
	}
	line("longest pause", "%.1f ms (p50 %.1f, p99 %.1f)", r.Pauses.Longest, r.Pauses.P50, r.Pauses.P99)
	line("latency", "p50 %.1f ms, p99 %.1f, longest %.1f", r.Latency.P50, r.Latency.P99, r.Latency.Longest)
	for _, p := range r.Problems {
		line("problem", "%s", p)
	}
	switch {
	case !r.OK():
		b.WriteString("The endpoint did not keep what it acknowledged.\n")
	case !r.Complete():
		b.WriteString("Nothing wrong was found, but not everything could be looked at.\n")
	default:
		b.WriteString("Everything acknowledged was found, once, in order, where it was acknowledged.\n")
	}
	return b.String()
}

// String is one line.
func (e Example) String() string {
	var b strings.Builder
	if e.Transaction != nil {
		fmt.Fprintf(&b, "transaction %d: ", *e.Transaction)
	}
	if e.Topic != "" {
		fmt.Fprintf(&b, "topic %s ", e.Topic)
	}
	fmt.Fprintf(&b, "partition %d offset %d", e.Partition, e.Offset)
	if e.Value != nil {
		fmt.Fprintf(&b, " value %s", e.Value)
	}
	if e.OtherOffset != nil {
		fmt.Fprintf(&b, " and offset %d", *e.OtherOffset)
	}
	if e.Other != nil {
		fmt.Fprintf(&b, " and value %s", e.Other)
	}
	if e.OtherTopic != "" {
		fmt.Fprintf(&b, " of topic %s", e.OtherTopic)
	}
	if e.Reader != "" {
		fmt.Fprintf(&b, " by %s", e.Reader)
	}
	return b.String()
}

// MarshalJSON writes empty lists as lists, which spares their readers a case.
func (r Report) MarshalJSON() ([]byte, error) {
	type plain Report // without this method
	if r.Problems == nil {
		r.Problems = []string{}
	}
	if r.Partitions == nil {
		r.Partitions = []PartitionReport{}
	}
	return json.Marshal(plain(r))
}
