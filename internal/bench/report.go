package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
)

// figure is one line of the report.
type figure struct {
	Scenario  string  `json:"scenario"`
	Name      string  `json:"name"`
	Unit      string  `json:"unit"`
	Value     float64 `json:"value"`
	Peer      string  `json:"peer,omitempty"`
	PeerValue float64 `json:"peerValue,omitempty"`
	// Ratio is the median of the rounds' ratios, which is not quite the ratio of the medians.
	Ratio float64 `json:"ratio,omitempty"`
	Goal  string  `json:"goal,omitempty"`
	Met   *bool   `json:"met,omitempty"`
	Note  string  `json:"note,omitempty"`
}

func no() *bool { b := false; return &b }

// median of values; NaN of none.
func median(values []float64) float64 {
	v := slices.Clone(values)
	slices.Sort(v)
	switch n := len(v); {
	case n == 0:
		return math.NaN()
	case n%2 == 1:
		return v[n/2]
	default:
		return (v[n/2-1] + v[n/2]) / 2
	}
}

// quantile of values that are not sorted.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.Clone(values)
	slices.Sort(v)
	return v[min(int(q*float64(len(v))), len(v)-1)]
}

// against compares the rounds of one thing with those of its peer, round by round.
func against(name, unit string, ours []float64, peer string, theirs []float64) figure {
	f := figure{Name: name, Unit: unit, Value: median(ours), Peer: peer, PeerValue: median(theirs)}
	var ratios []float64
	for i := range min(len(ours), len(theirs)) {
		if theirs[i] != 0 {
			ratios = append(ratios, ours[i]/theirs[i])
		}
	}
	if len(ratios) > 0 {
		f.Ratio = median(ratios)
	}
	return f
}

// goal sets what a figure is held to.
func (f figure) goal(text string, met bool) figure {
	f.Goal, f.Met = text, &met
	return f
}

func (f figure) ratioAtLeast(r float64) figure {
	return f.goal(fmt.Sprintf(">= %gx", r), f.Ratio >= r)
}

func (f figure) ratioAtMost(r float64) figure {
	return f.goal(fmt.Sprintf("<= %gx", r), f.Ratio <= r)
}

func (f figure) valueAtMost(v float64) figure {
	return f.goal(fmt.Sprintf("<= %g %s", v, f.Unit), f.Value <= v)
}

func (f figure) note(format string, args ...any) figure {
	f.Note = fmt.Sprintf(format, args...)
	return f
}

// number shows three digits that matter.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}

// report prints all figures.
func report(w io.Writer, o options, all []figure) error {
	if o.output == "json" {
		for i := range all {
			// JSON knows no NaN; a figure without rounds has its note.
			for _, v := range []*float64{&all[i].Value, &all[i].PeerValue, &all[i].Ratio} {
				if math.IsNaN(*v) || math.IsInf(*v, 0) {
					*v = 0
				}
			}
		}
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	heading(w, o)
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "SCENARIO\tFIGURE\tVALUE\tPEER\tPEER'S\tRATIO\tGOAL\tMET\tNOTE")
	for _, f := range all {
		theirs, ratio, met := "", "", ""
		if f.Peer != "" {
			theirs, ratio = number(f.PeerValue), number(f.Ratio)
		}
		if f.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*f.Met]
		}
		fmt.Fprintf(tw, "%s\t%s\t%s %s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Scenario, f.Name, number(f.Value), f.Unit, f.Peer, theirs, ratio, f.Goal, met, f.Note)
	}
	return tw.Flush()
}
