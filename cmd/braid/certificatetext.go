package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/braidstream/braid/console/api"
)

func certificateLine(c api.Certificate) string {
	var lost, duplicated, reordered, acknowledged, replayed, inPlace int64
	unread, unreported := 0, 0
	pause := "pause unknown"
	longest, idle := 0.0, 0
	add := func(sum *int64, n *int64) {
		if n != nil {
			*sum += *n
		}
	}
	for _, p := range c.Partitions {
		if p.Found == nil {
			unread++
		}
		add(&lost, p.Lost)
		add(&duplicated, p.Duplicated)
		add(&reordered, p.Reordered)
		if p.Acknowledged == nil {
			unreported++
		}
		add(&acknowledged, p.Acknowledged)
		replayed += p.Replayed
		inPlace += p.InPlace
		if p.PauseMs != nil && *p.PauseMs >= longest {
			longest = *p.PauseMs
			pause = fmt.Sprintf("longest pause %.0f ms", longest)
		}
		if p.Idle {
			idle++
		}
	}
	if idle > 0 && idle == len(c.Partitions) {
		pause = "idle: nobody waited"
	}
	what := fmt.Sprintf("%s lost, %s duplicated, %s reordered", count(lost), count(duplicated), count(reordered))
	switch {
	case unread == 0:
	case unread == len(c.Partitions) && lost+duplicated+reordered == 0:
		what = "lost, duplicated and reordered unverified: nothing was read"
	default:
		what += fmt.Sprintf(" as far as read (%s unverified)", plural(unread, "partition", "partitions"))
	}
	if replayed > 0 {
		what += "; " + plural(int(replayed), "stranded record", "stranded records") + " appended anew"
	}
	if inPlace > 0 {
		what += "; " + plural(int(inPlace), "stranded record", "stranded records") + " read in place"
	}
	acked := count(acknowledged) + " acknowledged"
	switch {
	case unreported == 0:
	case unreported == len(c.Partitions):
		acked = "acknowledged unverified: no gateway has reported"
	default:
		acked = fmt.Sprintf("%s as far as reported (%s unverified)", acked, plural(unreported, "partition", "partitions"))
	}
	line := fmt.Sprintf("%s %s, %s -> %s (%s): %s; %s, %s", c.Kind, c.Topic, c.From, c.To, c.Mode, c.Verdict, acked, what)
	if c.Kind != "return" {
		line += "; " + pause
	}
	if c.Return != "" {
		line += "; revised by return " + c.Return
	}
	if len(c.Failovers) > 0 {
		line += "; of failover " + strings.Join(c.Failovers, ", ")
	}
	return line + groupsInBrief(c)
}

// known shows a count, or that nothing was read that would tell it.
func known(n *int64) string {
	if n == nil {
		return "unverified"
	}
	return count(*n)
}

func printCertificate(w io.Writer, c api.Certificate) error {
	if _, err := fmt.Fprintf(w, "certificate: %s\n", certificateLine(c)); err != nil {
		return err
	}
	var rows [][]string
	for _, p := range c.Partitions {
		rows = append(rows, []string{fmt.Sprint(p.Partition), count(p.End), known(p.Acknowledged), known(p.Found),
			known(p.Lost), known(p.Duplicated), known(p.Reordered), pauseText(p), p.Verdict})
	}
	if err := table(w, []string{"PARTITION", "END", "ACKED", "FOUND", "LOST", "DUPLICATED", "REORDERED", "PAUSE MS", "VERDICT"}, rows); err != nil {
		return err
	}
	for _, p := range c.Partitions {
		for _, r := range p.Ranges {
			if _, err := fmt.Fprintf(w, "partition %d: [%s, %s) %s %s\n", p.Partition, count(r.From), count(r.To), r.What, r.Note); err != nil {
				return err
			}
		}
	}
	for _, l := range groupLines(c) {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	for _, l := range checkedLines(c) {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}

// pauseText shows for how long appends waited; idle: none did.
func pauseText(p api.CertifiedRecord) string {
	switch {
	case p.PauseMs != nil:
		return fmt.Sprintf("%.1f", *p.PauseMs)
	case p.Idle:
		return "idle"
	}
	return "-"
}

// checkedLines says what was checked, the same text once, with the partitions it holds for.
func checkedLines(c api.Certificate) []string {
	var texts []string
	of := map[string][]int32{}
	for _, p := range c.Partitions {
		for _, how := range p.Checked {
			if of[how] == nil {
				texts = append(texts, how)
			}
			of[how] = append(of[how], p.Partition)
		}
	}
	var lines []string
	for _, how := range texts {
		head := "checked"
		text, later := strings.CutPrefix(how, "to come: ")
		if later {
			head = "to come"
		}
		lines = append(lines, head+", "+partitionList(of[how])+": "+text)
	}
	return lines
}

// partitionList names partitions, neighbours as a range.
func partitionList(ids []int32) string {
	ids = slices.Sorted(slices.Values(ids))
	noun := "partition "
	if len(ids) > 1 {
		noun = "partitions "
	}
	var parts []string
	for i := 0; i < len(ids); {
		j := i
		for j+1 < len(ids) && ids[j+1] == ids[j]+1 {
			j++
		}
		switch j - i {
		case 0:
			parts = append(parts, fmt.Sprint(ids[i]))
		case 1:
			parts = append(parts, fmt.Sprint(ids[i]), fmt.Sprint(ids[j]))
		default:
			parts = append(parts, fmt.Sprintf("%d to %d", ids[i], ids[j]))
		}
		i = j + 1
	}
	return noun + strings.Join(parts, ", ")
}
