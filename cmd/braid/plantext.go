package main

import (
	"fmt"
	"io"
	"time"

	"github.com/braidstream/braid/console/api"
)

func printPlan(w io.Writer, p api.Plan) error {
	if err := printMoves(w, p); err != nil {
		return err
	}
	if err := printKept(w, p.Kept); err != nil {
		return err
	}
	return printCosts(w, p.Costs)
}

// printMoves says what a plan does, and what that concerns.
func printMoves(w io.Writer, p api.Plan) error {
	if p.Refused != "" {
		if _, err := fmt.Fprintf(w, "would be refused: %s\n", oneLine(p.Refused)); err != nil {
			return err
		}
	}
	if p.Nothing {
		_, err := fmt.Fprintln(w, "nothing to do")
		return err
	}
	if p.Effect != "" {
		if _, err := fmt.Fprintln(w, p.Effect); err != nil {
			return err
		}
		if len(p.Moves) == 0 {
			_, err := fmt.Fprintln(w, "no topic is to be moved")
			return err
		}
	}
	if len(p.Moves) == 0 {
		return nil // it would be refused
	}
	var rows [][]string
	for _, m := range p.Moves {
		rows = append(rows, []string{m.Topic, count(int64(m.Partitions)), m.From, dash(m.To), m.Mode, unknownOr(m.Records, count), unknownOr(m.Bytes, bytesText), keptText(m), m.Note})
	}
	if err := table(w, []string{"TOPIC", "PARTITIONS", "FROM", "TO", "MODE", "RECORDS", "SIZE", "KEPT THERE UNTIL", "NOTE"}, rows); err != nil {
		return err
	}
	return printVolume(w, p)
}

// unknownOr writes a number that may not be known.
func unknownOr(n *int64, text func(int64) string) string {
	if n == nil {
		return "unknown"
	}
	return text(*n)
}

// keptText says until when a topic's records must be kept where they are.
func keptText(m api.PlanMove) string {
	switch {
	case m.KeptForever:
		return "deleted"
	case m.KeptUntil != nil:
		return m.KeptUntil.Local().Format("2006-01-02 15:04")
	}
	return "-"
}

// volume adds up what topics have of something, as far as it is known.
type volume struct {
	sum            int64
	known, unknown int // topics
}

func (v *volume) add(n *int64) {
	if n == nil {
		v.unknown++
		return
	}
	v.known++
	v.sum += *n
}

// text writes the sum, and never as a number what nobody has told.
func (v *volume) text(noun string, text func(int64) string) string {
	switch {
	case v.unknown == 0:
		return text(v.sum)
	case v.known == 0:
		return "an unknown number of " + noun
	}
	return fmt.Sprintf("at least %s (unknown of %s)", text(v.sum), plural(v.unknown, "topic", "topics"))
}

// printVolume says what a plan concerns in all.
func printVolume(w io.Writer, p api.Plan) error {
	var records, size volume
	var open int64
	var until time.Time
	forever := 0
	for _, m := range p.Moves {
		records.add(m.Records)
		size.add(m.Bytes)
		if m.OpenTransactions != nil && *m.OpenTransactions > 0 {
			open++
		}
		if m.KeptForever {
			forever++
		}
		if m.KeptUntil != nil && m.KeptUntil.After(until) {
			until = *m.KeptUntil
		}
	}
	lines := []string{fmt.Sprintf("volume: %s, %s; nothing is copied, they stay where they are",
		records.text("records", func(n int64) string { return plural(int(n), "record", "records") }), size.text("bytes", bytesText))}
	switch {
	case forever > 0:
		lines = append(lines, fmt.Sprintf("kept: %s until deleted: nothing in the retention lets go of what is there", plural(forever, "topic", "topics")))
	case !until.IsZero():
		lines = append(lines, "kept: until "+until.Local().Format("2006-01-02 15:04")+" at the latest, by retention")
	}
	if open > 0 && p.Kind != "failover" {
		lines = append(lines, fmt.Sprintf("transactions: open in %s; a move waits for their end, a minute at the longest, and holds new ones meanwhile", plural(int(open), "topic", "topics")))
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}

func printCosts(w io.Writer, costs []string) error {
	for _, c := range costs {
		if _, err := fmt.Fprintf(w, "cost: %s\n", oneLine(c)); err != nil {
			return err
		}
	}
	return nil
}
