package verify

import (
	"encoding/json"
	"fmt"
	"strings"
)

// A TxnReport is the judgement over a history of transactions.
type TxnReport struct {
	Seconds float64 `json:"seconds"` // the workload's, without the final read

	Transactions int64 `json:"transactions"`
	Committed    int64 `json:"committed"` // acknowledged
	Aborted      int64 `json:"aborted"`   // a commit was never asked for: aborted, or given up in the middle
	Unknown      int64 `json:"unknown"`   // a commit was asked for, and no answer said that it was done
	UnknownThere int64 `json:"unknownThere"`
	Unverified   int64 `json:"unverified"` // some of its records could not be looked for

	// Of transactions; [CheckTxns] says what exactly.
	Torn     Anomaly `json:"torn"`
	TornView Anomaly `json:"tornView"`
	Hidden   Anomaly `json:"hidden"`

	// Of records of the first topic, which a group consumes in transactions. An example's other offset is what the
	// group has committed at the end.
	Unprocessed     Anomaly `json:"unprocessed"`     // below the committed offset, and no transaction that is there consumed it
	Reprocessed     Anomaly `json:"reprocessed"`     // more than one did
	OffsetLost      Anomaly `json:"offsetLost"`      // one did, and the committed offset is not past it
	OffsetBackwards Anomaly `json:"offsetBackwards"` // somebody was told a lower committed, stable offset than before
	// OffsetsUnverified are partitions of which the committed offset could not be found out, or compared.
	OffsetsUnverified int64 `json:"offsetsUnverified"`

	Pauses  Summary `json:"pauses"`  // between one acknowledged commit and the next, of all producers
	Latency Summary `json:"latency"` // from the begin of a transaction to the acknowledgement of its commit

	Topics   []Report `json:"topics"`
	Problems []string `json:"problems"` // as of [Report]
}

// Anomalies lists the anomalies that are faults of the endpoint: those of transactions, then those of all topics
// together.
func (r *TxnReport) Anomalies() []NamedAnomaly {
	all := []NamedAnomaly{
		{"torn", r.Torn}, {"torn view", r.TornView}, {"hidden", r.Hidden}, {"unprocessed", r.Unprocessed},
		{"reprocessed", r.Reprocessed}, {"offset lost", r.OffsetLost}, {"offset backwards", r.OffsetBackwards},
	}
	own := len(all)
	for i := range r.Topics {
		for j, a := range r.Topics[i].Anomalies() {
			if i == 0 {
				all = append(all, NamedAnomaly{Name: a.Name})
			}
			sum := &all[own+j]
			sum.Count += a.Count
			for _, e := range a.Examples[:min(len(a.Examples), maxExamples-len(sum.Examples))] {
				e.Topic = r.Topics[i].Topic
				sum.Examples = append(sum.Examples, e)
			}
		}
	}
	return all
}

// OK says that nothing went wrong in what could be verified.
func (r *TxnReport) OK() bool {
	for _, a := range r.Anomalies() {
		if a.Count > 0 {
			return false
		}
	}
	return true
}

// Complete says that everything could be verified.
func (r *TxnReport) Complete() bool {
	for i := range r.Topics {
		if !r.Topics[i].Complete() {
			return false
		}
	}
	return r.Unverified == 0 && r.OffsetsUnverified == 0 && len(r.Topics) > 0
}

// String is the report for people, of several lines.
func (r *TxnReport) String() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-16s "+format+"\n", append([]any{name}, args...)...)
	}
	for i := range r.Topics {
		t := &r.Topics[i]
		line("topic", "%s, %d partitions: %d records sent, %d of acknowledged commits, %d found", t.Topic, len(t.Partitions), t.Sent, t.Acknowledged, t.Found)
	}
	line("transactions", "%d in %.1f s", r.Transactions, r.Seconds)
	line("committed", "%d", r.Committed)
	line("aborted", "%d", r.Aborted)
	if r.Unknown > 0 {
		line("unknown", "%d (a commit was asked for, no answer), %d of them are there", r.Unknown, r.UnknownThere)
	}
	for _, a := range r.Anomalies() {
		line(a.Name, "%d", a.Count)
		for _, e := range a.Examples {
			fmt.Fprintf(&b, "%17s%s\n", "", e)
		}
	}
	if !r.Complete() {
		line("unverified", "%d transactions", r.Unverified)
		for i := range r.Topics {
			for _, p := range r.Topics[i].Partitions {
				if !p.Verified {
					line("", "topic %s, partition %d could not be read to the end", r.Topics[i].Topic, p.Partition)
				}
			}
		}
		if r.OffsetsUnverified > 0 {
			line("", "the group's offsets of %d partitions could not be compared", r.OffsetsUnverified)
		}
	}
	line("longest pause", "%.1f ms between commits (p50 %.1f, p99 %.1f)", r.Pauses.Longest, r.Pauses.P50, r.Pauses.P99)
	line("latency", "p50 %.1f ms, p99 %.1f, longest %.1f", r.Latency.P50, r.Latency.P99, r.Latency.Longest)
	for _, p := range r.Problems {
		line("problem", "%s", p)
	}
	switch {
	case !r.OK():
		b.WriteString("The endpoint did not keep its transactions.\n")
	case !r.Complete():
		b.WriteString("Nothing wrong was found, but not everything could be looked at.\n")
	default:
		b.WriteString("Every transaction is there as a whole and once, in order, or not at all.\n")
	}
	return b.String()
}

// MarshalJSON writes empty lists as lists, which spares their readers a case.
func (r TxnReport) MarshalJSON() ([]byte, error) {
	type plain TxnReport // without this method
	if r.Problems == nil {
		r.Problems = []string{}
	}
	if r.Topics == nil {
		r.Topics = []Report{}
	}
	return json.Marshal(plain(r))
}
