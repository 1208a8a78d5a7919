package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/braidstream/braid/console/api"
)

// What a certificate says of the groups that have not read all of a lost span.

// groupsShown bounds the lines of one certificate.
const groupsShown = 20

// groupsInBrief is the end of a certificate's line.
func groupsInBrief(c api.Certificate) string {
	n := map[string]int{}
	for _, p := range c.Partitions {
		for _, g := range p.Groups {
			n[g.What]++
		}
	}
	text := ""
	for _, x := range []struct{ what, one, many string }{
		{"waits", "group stands before records that cannot be read", "groups stand before records that cannot be read"},
		{"skipped", "group skipped records", "groups skipped records"},
		{"lost", "group had not read what is lost", "groups had not read what is lost"},
		{"dropped", "group had not read what was dropped", "groups had not read what was dropped"},
	} {
		if n[x.what] > 0 {
			text += "; " + plural(n[x.what], x.one, x.many)
		}
	}
	return text
}

// groupLines tells of each group, and how far these are all.
func groupLines(c api.Certificate) []string {
	var lines []string
	more := 0
	for _, p := range c.Partitions {
		for _, g := range p.Groups {
			if len(lines) == groupsShown {
				more++
				continue
			}
			lines = append(lines, fmt.Sprintf("partition %d: group %s %s", p.Partition, groupName(g.Group), groupText(c, p.Partition, g)))
		}
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("and %s more (-o json lists them)", plural(more, "group", "groups")))
	}
	a := c.GroupsAsked
	if a == nil {
		return lines
	}
	switch {
	case a.UnknownShards < 0:
		lines = append(lines, "groups: not known where they stood: no coordinator was reached in time")
	case a.UnknownShards > 0:
		lines = append(lines, fmt.Sprintf("groups: those of %s are not known: their coordinators did not answer in time", plural(a.UnknownShards, "coordinator shard", "coordinator shards")))
	}
	if a.LateShards > 0 {
		lines = append(lines, fmt.Sprintf("groups: those of %s were asked only after the failover: which of them had skipped records by then is not known", plural(a.LateShards, "coordinator shard", "coordinator shards")))
	}
	if a.UnlistedGroups > 0 {
		lines = append(lines, fmt.Sprintf("groups: %s with committed offsets could not be listed, there are too many", count(a.UnlistedGroups)))
	}
	return lines
}

func groupText(c api.Certificate, partition int32, g api.CertifiedGroup) string {
	span := fmt.Sprintf("[%s, %s)", count(g.From), count(g.To))
	switch g.What {
	case "waits":
		return fmt.Sprintf("stands at %s: up to %s in %s wait for cluster %s; it skips them if it reads on meanwhile",
			count(g.Committed), plural(int(g.Records), "record", "records"), span, c.From)
	case "lost":
		return fmt.Sprintf("stands at %s, and had not read up to %s in %s: they are lost, and it goes on behind them", count(g.Committed), plural(int(g.Records), "record", "records"), span)
	case "skipped":
		now := ""
		if g.Now != nil {
			now = " and has committed " + count(*g.Now) + " since"
		}
		return fmt.Sprintf("skipped up to %s in %s: it stood at %s when the cluster was lost%s; to go back (it reads on from there, again): kafka-consumer-groups.sh --bootstrap-server HOST:PORT --group %s --topic %s:%d --reset-offsets --to-offset %d --execute",
			plural(int(g.Records), "record", "records"), span, count(g.Committed), now, quoted(g.Group), quoted(c.Topic), partition, g.From)
	}
	return fmt.Sprintf("had not read up to %s in %s, which left the topic", plural(int(g.Records), "record", "records"), span)
}

// groupName shows a name that a client has chosen: nothing in it moves the operator's cursor.
func groupName(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` || strings.ContainsAny(s, " ,;") {
		return q
	}
	return s
}

// quoted is a word as a shell takes it; one that cannot be shown has to be put in by the reader.
func quoted(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return "GROUP"
	}
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
