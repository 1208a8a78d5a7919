package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/tenant/audit"
)

// auditSettings are the keys of --set about the audit log.
var auditSettings = []setting{
	{"braid.audit.log", "file of the audit log, stdout, stderr, or off (audit/audit.log in the data directory; stderr where there is none)",
		word(func(s *settings) *string { return &s.AuditLog })},
	{"braid.audit.topic", "whether audit events are also in the internal topic __braid_audit: on, off, or auto, from the first tenant, user or operator on (auto)",
		func(s *settings, v string) error {
			if v != "on" && v != "off" && v != "auto" {
				return fmt.Errorf("want auto, on or off, not %q", v)
			}
			s.AuditTopic = v
			return nil
		}},
}

// auditor is the process's audit log with where it can be read.
type auditor struct {
	*audit.Log
	p    *process
	path string // of the file; "" if there is none
}

// startAudit opens the log before anything that writes to it starts.
func (p *process) startAudit(out streams) error {
	if p.settings.AuditLog == "off" && p.settings.AuditTopic != "on" {
		p.settings.AuditTopic = "off"
	}
	o := audit.Options{Path: p.settings.AuditLog, Logger: p.logger}
	switch {
	case o.Path == "off":
		o.Path = ""
	case o.Path == "stdout":
		o.Path, o.Stream = "", out.out
	case o.Path == "" && p.cfg.DataDir != "":
		o.Path = filepath.Join(p.cfg.DataDir, "audit", "audit.log")
	case o.Path == "", o.Path == "stderr":
		o.Path, o.Stream = "", out.err
	}
	a := &auditor{p: p, path: o.Path}
	if p.settings.AuditTopic != "off" {
		o.Topic = a.toTopic
	}
	if o.Path == "" && o.Stream == nil && o.Topic == nil {
		return nil
	}
	var err error
	if a.Log, err = audit.Open(o); err != nil {
		return err
	}
	p.audit = a
	p.onEnd(func(ctx context.Context) error {
		// What is for the topic had its time: the chains are closed.
		ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		return a.Close(ctx)
	})
	counter := func(name, help string, of func(audit.Counts) int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "braid", Subsystem: "audit", Name: name, Help: help},
			func() float64 { return float64(of(a.Counts())) })
	}
	p.metrics.MustRegister(
		counter("written_total", "Audit events that were written.", func(c audit.Counts) int64 { return c.Written }),
		counter("left_out_total", "Audit events of a flood that were counted only.", func(c audit.Counts) int64 { return c.LeftOut }),
		counter("lost_total", "Audit events that could not be written.", func(c audit.Counts) int64 { return c.Lost }),
		counter("topic_lost_total", "Audit events that could not be appended to the topic.", func(c audit.Counts) int64 { return c.TopicLost }))
	return nil
}

// drainAudit has the topic take what is for it, at the end, while there are chains.
func (p *process) drainAudit() {
	if p.audit == nil || p.settings.AuditTopic == "off" {
		return
	}
	p.onEnd(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, auditFarewell)
		defer cancel()
		p.audit.Drain(ctx)
		return nil
	})
}

// auditFarewell is how long the topic is waited for at the end of a process.
const auditFarewell = 2 * time.Second

// log is the log for those who write to it; nil where there is none.
func (a *auditor) log() *audit.Log {
	if a == nil {
		return nil
	}
	return a.Log
}

func newAudit(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Who changed what, and who was denied what",
		Example: `  braid audit list --since 24h
  braid audit tail`,
	}
	group(cmd)
	cmd.AddCommand(newAuditList(e), newAuditTail(e))
	return cmd
}

type auditFlags struct {
	since  string
	until  string
	tenant string
	kind   string
	limit  int
}

func (f *auditFlags) add(cmd *cobra.Command, since string) {
	fs := cmd.Flags()
	fs.StringVar(&f.since, "since", since, "how far back, such as 24h, or a time such as 2026-01-31T12:00:00Z")
	fs.StringVar(&f.tenant, "tenant", "", "of this tenant only")
	fs.StringVar(&f.kind, "kind", "", "change, denied, unauthenticated or left-out only")
	fs.IntVar(&f.limit, "limit", 1000, "the newest so many, at most 10000")
	complete(cmd, "kind", audit.Change, audit.Denied, audit.Unauthenticated, audit.LeftOut)
}

func (f *auditFlags) query() (api.AuditQuery, error) {
	if f.limit < 1 || f.limit > audit.MaxEvents {
		return api.AuditQuery{}, usagef("--limit wants a number from 1 to %d", audit.MaxEvents)
	}
	q := api.AuditQuery{Tenant: f.tenant, Kind: f.kind, Limit: f.limit}
	var err error
	if q.Since, err = moment("since", f.since); err == nil && f.until != "" {
		q.Until, err = moment("until", f.until)
	}
	if err == nil && !q.Until.IsZero() && q.Until.Before(q.Since) {
		err = usagef("--until is before --since")
	}
	return q, err
}

// moment reads a time, or how long ago it was.
func moment(flag, text string) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return time.Now().Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return at, usagef("--%s wants a duration such as 24h, or a time such as 2026-01-31T12:00:00Z, not %.50q", flag, text)
	}
	return at, nil
}

func auditRow(e api.AuditEvent) []string {
	result := e.Result
	if e.LeftOut > 0 {
		result = strings.TrimSpace(fmt.Sprintf("%s (+%d like it left out)", result, e.LeftOut))
	}
	return []string{e.Time.Local().Format(time.DateTime), e.Kind, dash(printable(e.Who)), dash(e.From), dash(e.Tenant), e.Action, dash(printable(e.Resource + " " + e.Detail)), result}
}

// printable is seen, cut.
func printable(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "") + "…"
	}
	return seen(s)
}

func newAuditList(e *env) *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what was changed and denied",
		Long: `List administrative changes, denials and failed authentications, oldest first: who, from where, what, result.
What is shown is the log of the process that is asked and, where there is an audit topic, that of all processes. Where
there are more than are shown, the newest are, and where to go on is said on standard error.`,
		Example: `  braid audit list --since 24h
  braid audit list --kind denied --tenant orders -o json
  braid audit list --since 720h --until 2026-01-31T12:00:00Z`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := f.query()
			if err != nil {
				return err
			}
			var page api.AuditPage
			list := func(ctx context.Context, c *api.Client, _ []string) ([]api.AuditEvent, error) {
				var err error
				page, err = c.Audit(ctx, q)
				return page.Events, err
			}
			err = ask(e, list, func(w io.Writer, list []api.AuditEvent) error {
				var rows [][]string
				for _, x := range list {
					rows = append(rows, auditRow(x))
				}
				return table(w, []string{"TIME", "KIND", "WHO", "FROM", "TENANT", "ACTION", "WHAT", "RESULT"}, rows)
			})(cmd, args)
			if err != nil || page.From.IsZero() {
				return err
			}
			at := page.From.Format(time.RFC3339Nano)
			_, err = fmt.Fprintf(e.err, "There may be more before %s: --until %s shows what came before it.\n", at, at)
			return err
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.until, "until", "", "up to when: how long ago, or a time (default: now)")
	f.add(cmd, "24h")
	return cmd
}

// auditEvery is how often tail asks for news.
const auditEvery = time.Second

func newAuditTail(e *env) *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:     "tail",
		Short:   "Show what is changed and denied as it happens, until interrupted",
		Example: "  braid audit tail --kind denied",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.query()
			if err != nil {
				return err
			}
			c, err := e.client()
			if err != nil {
				return err
			}
			seen := map[api.AuditEvent]bool{} // of the latest time
			for {
				page, err := c.Audit(cmd.Context(), q)
				if cmd.Context().Err() != nil {
					return nil
				}
				if err != nil {
					return err
				}
				if !page.From.IsZero() {
					if _, err := fmt.Fprintf(e.err, "Not all before %s are shown: braid audit list --until %[1]s does.\n", page.From.Format(time.RFC3339Nano)); err != nil {
						return err
					}
				}
				for _, x := range page.Events {
					if seen[x] {
						continue
					}
					if x.Time.After(q.Since) {
						q.Since = x.Time
						clear(seen)
					}
					seen[x] = true
					if err := e.tailed(x); err != nil {
						return err
					}
				}
				select {
				case <-time.After(auditEvery):
				case <-cmd.Context().Done():
					return nil
				}
			}
		},
	}
	f.add(cmd, "1m")
	return cmd
}

// tailed prints one event on a line of its own.
func (e *env) tailed(x api.AuditEvent) error {
	if e.output == "json" {
		return json.NewEncoder(e.out).Encode(x)
	}
	_, err := fmt.Fprintln(e.out, seen(strings.Join(auditRow(x), "  ")))
	return err
}
