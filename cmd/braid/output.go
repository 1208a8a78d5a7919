package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
)

// print writes v as JSON, or calls text, as the user asked.
func (e *env) print(v any, text func(w io.Writer) error) error {
	if e.output == "json" {
		enc := json.NewEncoder(e.out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	return text(e.out)
}

// ask is the body of a command that asks the admin API for one thing and prints it.
func ask[T any](e *env, get func(ctx context.Context, c *api.Client, args []string) (T, error), text func(io.Writer, T) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := e.client()
		if err != nil {
			return err
		}
		v, err := get(cmd.Context(), c, args)
		if err != nil {
			return err
		}
		return e.print(v, func(w io.Writer) error { return text(w, v) })
	}
}

// gone is what a command prints that took something away: verb says how.
type gone struct{ verb, kind, name string }

// MarshalJSON gives {"removed": "east"}.
func (g gone) MarshalJSON() ([]byte, error) { return json.Marshal(map[string]string{g.verb: g.name}) }

func printGone(w io.Writer, g gone) error {
	_, err := fmt.Fprintf(w, "%s %s %s\n", g.kind, g.name, g.verb)
	return err
}

// table writes rows in aligned columns under a head.
func table(w io.Writer, head []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if _, err := fmt.Fprintln(tw, strings.Join(head, "\t")); err != nil {
		return err
	}
	for _, r := range rows {
		cells := make([]string, len(r))
		for i, cell := range r {
			cells[i] = seen(oneLine(cell))
		}
		if _, err := fmt.Fprintln(tw, strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// seen keeps names that clients made up, of groups and users for instance, from steering the terminal.
func seen(s string) string {
	return strings.Map(func(r rune) rune {
		if catalog.Seen(r) {
			return r
		}
		return '?'
	}, s)
}

// oneLine keeps what others have worded, such as several errors in one, from breaking a line
// that people and scripts read as one.
func oneLine(s string) string {
	if !strings.ContainsAny(s, "\n\r\t\v\f") {
		return s
	}
	var parts []string
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if part = strings.Join(strings.Fields(part), " "); part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "; ")
}

// dash shows an empty value.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// count writes a number with thousands separated.
func count(n int64) string {
	s := fmt.Sprint(n)
	neg := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(s, "-")
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if neg {
		s = "-" + s
	}
	return s
}

// plural writes a count with its noun.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(int64(n)) + " " + many
}

// ago writes how long ago t was.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd ago", int(d.Hours()/24))
	}
}

// bytesText writes a number of bytes for people.
func bytesText(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	x, i := float64(n)/1024, 0
	for ; x >= 1024 && i < len(units)-1; i++ {
		x /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", x, units[i])
}
