package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/tenant/audit"
)

// auditSettings are the keys of --set about the audit log.
var auditSettings = []setting{
	{"braid.audit.log", "file of the audit log, stdout, stderr, or off (audit/audit.log in the data directory; stderr where there is none)",
		word(func(s *settings) *string { return &s.AuditLog })},
	{"braid.audit.topic", "on: audit events are also in the internal topic __braid_audit, which is made for the first one (off)",
		func(s *settings, v string) error {
			if v != "on" && v != "off" {
				return fmt.Errorf("want on or off, not %q", v)
			}
			s.AuditTopic = v == "on"
			return nil
		}},
}

// auditTopic is the internal topic of audit events, of the system tenant.
const auditTopic = "__braid_audit"

// auditTopicConfig keeps three months of events, at most 1 GiB.
func auditTopicConfig() map[string]string {
	return map[string]string{"cleanup.policy": "delete", "retention.ms": "7776000000", "retention.bytes": "1073741824", "braid.guarantee": "ordered"}
}

// auditor is the process's audit log with where it can be read.
type auditor struct {
	*audit.Log
	p    *process
	path string // of the file; "" if there is none
}

// startAudit opens the log before anything that writes to it starts.
func (p *process) startAudit(out streams) error {
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
	if p.settings.AuditTopic && p.cfg.Gateways > 0 {
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
	if p.audit == nil || !p.settings.AuditTopic {
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

// partition is that of the topic, in the chains of the process's first gateway.
func (a *auditor) partition(ctx context.Context, make bool) (*chain.Partition, error) {
	if len(a.p.nodes) == 0 {
		return nil, errors.New("no gateway runs yet")
	}
	var t catalog.Topic
	var err error
	if make {
		t, err = a.p.ensureInternal(ctx, auditTopic, 1, auditTopicConfig())
	} else {
		t, err = a.p.catalog.TopicNamed(ctx, catalog.SystemTenant, auditTopic)
	}
	if err != nil {
		return nil, err
	}
	return a.p.nodes[0].logs.Partition(t.ID, 0)
}

// auditLimit bounds one append to the topic.
const auditLimit = 30 * time.Second

// toTopic appends lines as one batch. An append whose answer is lost is made again:
// an event may be in the topic twice, and is the same then.
func (a *auditor) toTopic(ctx context.Context, lines [][]byte) error {
	if !a.p.started.Load() {
		return errors.New("no gateway runs yet")
	}
	ctx, cancel := context.WithTimeout(ctx, auditLimit)
	defer cancel()
	part, err := a.partition(ctx, true)
	if err != nil {
		return err
	}
	b := batch.NewBuilder()
	for _, line := range lines {
		b.Add(batch.Record{Timestamp: time.Now().UnixMilli(), Value: line})
	}
	raw, err := b.Build()
	if err != nil {
		return err
	}
	h, _, err := batch.Parse(raw)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	part.Append(&chain.Append{Batch: raw, Header: h, Deadline: time.Now().Add(auditLimit), Done: func(x *chain.Append) { done <- x.Err }})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// maxAuditRead bounds what one query reads of the topic, in bytes.
const maxAuditRead = 64 << 20

// Read reads the topic, where all processes' events are, else the process's file.
func (a *auditor) Read(ctx context.Context, q audit.Query) ([]audit.Event, error) {
	if !a.p.settings.AuditTopic || a.p.cfg.Gateways == 0 {
		if a.path == "" {
			return nil, &api.Error{Status: 404, Code: "unknown", Message: "this process keeps no audit log that it could read", Hint: "--set braid.audit.log=FILE or braid.audit.topic=on"}
		}
		return audit.Read(a.path, q)
	}
	part, err := a.partition(ctx, false)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, nil // nothing has happened yet
	}
	if err != nil {
		return nil, err
	}
	return readAudit(ctx, part, q)
}

func readAudit(ctx context.Context, part *chain.Partition, q audit.Query) ([]audit.Event, error) {
	found := audit.NewNewest(q)
	offset, end, _, err := part.Offsets(ctx, false)
	if err != nil {
		return nil, err
	}
	if !q.Since.IsZero() {
		// The record's time is that of its append: never before the event's.
		if at, _, _, there, err := part.OffsetFor(ctx, q.Since.UnixMilli()); err != nil {
			return nil, err
		} else if !there {
			return nil, nil
		} else {
			offset = max(offset, at)
		}
	}
	for read := 0; offset < end && read < maxAuditRead; {
		r, err := part.Read(ctx, chain.ReadRequest{Offset: offset, MaxBytes: 1 << 20, ClientEpoch: -1, LastFetchedEpoch: -1})
		if err != nil {
			return nil, err
		}
		next, err := eachAuditEvent(r.Batches, offset, found)
		read += len(r.Batches)
		if r.Release != nil {
			r.Release()
		}
		if err != nil {
			return nil, err
		}
		if next <= offset {
			break
		}
		offset = next
	}
	return found.List(), nil
}

// eachAuditEvent adds the events of whole batches from an offset on, and returns the
// offset after them.
func eachAuditEvent(b []byte, from int64, found *audit.Newest) (next int64, err error) {
	for next = from; len(b) > 0; {
		h, size, err := batch.Parse(b)
		if err != nil {
			return next, err
		}
		for rec, err := range batch.Records(b[:size], maxAuditRead) {
			if err != nil {
				return next, err
			}
			if e, ok := audit.Parse(rec.Value); ok && !h.IsControl() {
				found.Add(&e)
			}
		}
		next, b = max(next, h.NextOffset()), b[size:]
	}
	return next, nil
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
	since  time.Duration
	tenant string
	kind   string
	limit  int
}

func (f *auditFlags) add(cmd *cobra.Command, since time.Duration) {
	fs := cmd.Flags()
	fs.DurationVar(&f.since, "since", since, "how far back, such as 24h")
	fs.StringVar(&f.tenant, "tenant", "", "of this tenant only")
	fs.StringVar(&f.kind, "kind", "", "change, denied, unauthenticated or left-out only")
	fs.IntVar(&f.limit, "limit", 1000, "the newest so many, at most 10000")
	complete(cmd, "kind", audit.Change, audit.Denied, audit.Unauthenticated, audit.LeftOut)
}

func (f *auditFlags) query() (api.AuditQuery, error) {
	if f.since <= 0 || f.limit < 1 || f.limit > audit.MaxEvents {
		return api.AuditQuery{}, usagef("--since wants a duration such as 24h, --limit a number from 1 to %d", audit.MaxEvents)
	}
	return api.AuditQuery{Since: time.Now().Add(-f.since), Tenant: f.tenant, Kind: f.kind, Limit: f.limit}, nil
}

func auditRow(e api.AuditEvent) []string {
	result := e.Result
	if e.LeftOut > 0 {
		result = strings.TrimSpace(fmt.Sprintf("%s (+%d like it left out)", result, e.LeftOut))
	}
	return []string{e.Time.Local().Format(time.DateTime), e.Kind, dash(e.Who), dash(e.From), dash(e.Tenant), e.Action, dash(printable(e.Resource + " " + e.Detail)), result}
}

// printable keeps what clients sent from steering the terminal.
func printable(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if catalog.CheckUserName("x"+string(r)+"x") != nil {
			return '?'
		}
		return r
	}, s)
}

func newAuditList(e *env) *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what was changed and denied",
		Long: `List administrative changes, denials and failed authentications, oldest first: who, from where, what, result.
What is shown is the log of the process that is asked; of all processes with --set braid.audit.topic=on.`,
		Example: `  braid audit list --since 24h
  braid audit list --kind denied --tenant orders -o json`,
		Args: names(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := f.query()
			if err != nil {
				return err
			}
			return ask(e, func(ctx context.Context, c *api.Client, _ []string) ([]api.AuditEvent, error) { return c.Audit(ctx, q) },
				func(w io.Writer, list []api.AuditEvent) error {
					var rows [][]string
					for _, x := range list {
						rows = append(rows, auditRow(x))
					}
					return table(w, []string{"TIME", "KIND", "WHO", "FROM", "TENANT", "ACTION", "WHAT", "RESULT"}, rows)
				})(cmd, args)
		},
	}
	f.add(cmd, 24*time.Hour)
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
		Args:    names(0, 0, "no arguments"),
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
				list, err := c.Audit(cmd.Context(), q)
				if cmd.Context().Err() != nil {
					return nil
				}
				if err != nil {
					return err
				}
				for _, x := range list {
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
	f.add(cmd, time.Minute)
	return cmd
}

// tailed prints one event on a line of its own.
func (e *env) tailed(x api.AuditEvent) error {
	if e.output == "json" {
		return json.NewEncoder(e.out).Encode(x)
	}
	_, err := fmt.Fprintln(e.out, strings.Join(auditRow(x), "  "))
	return err
}
