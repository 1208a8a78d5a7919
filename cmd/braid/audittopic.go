package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/coordinator"
	"github.com/braidstream/braid/tenant/audit"
)

// auditTopic is the internal topic of audit events, of the system tenant.
const auditTopic = "__braid_audit"

// auditTopicConfig keeps three months of events, at most 1 GiB.
func auditTopicConfig() map[string]string {
	return map[string]string{"cleanup.policy": "delete", "retention.ms": "7776000000", "retention.bytes": "1073741824", "braid.guarantee": "ordered"}
}

// wantsTopic tells whether events go to the topic. Unless that is said it is so from the first tenant, user or
// operator on: before, there is nobody to tell apart, and no topic is made of whoever tries Braid out.
func (a *auditor) wantsTopic(s *catalog.Snapshot) bool {
	switch a.p.settings.AuditTopic {
	case "on":
		return true
	case "off":
		return false
	}
	return len(s.Tenants()) > 1 || s.Operators() > 0 || len(s.Users(catalog.DefaultTenant)) > 0
}

// partition is that of the topic, in the chains of the process's first gateway.
func (a *auditor) partition(ctx context.Context, make bool) (*chain.Partition, error) {
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

// toTopic brings lines to the topic: by a gateway of this process, else by one of another. What is made again since its
// answer was lost may be in the topic twice, and is the same then.
func (a *auditor) toTopic(ctx context.Context, lines [][]byte) error {
	if !a.p.started.Load() {
		return errors.New("the process is starting")
	}
	ctx, cancel := context.WithTimeout(ctx, auditLimit)
	defer cancel()
	if !a.wantsTopic(a.p.watcher.Snapshot()) {
		// What makes the topic wanted may be the event itself, which is told before the watch brings it.
		s, err := a.p.watcher.Refresh(ctx)
		if err != nil {
			return err
		}
		if !a.wantsTopic(s) {
			return nil // they are in the file
		}
	}
	if len(a.p.nodes) > 0 {
		return a.append(ctx, lines)
	}
	for part := range slices.Chunk(lines, maxPeerLines) {
		texts := make([]string, len(part))
		for i, line := range part {
			texts[i] = string(line)
		}
		body, err := json.Marshal(texts)
		if err != nil {
			return err
		}
		if _, err := a.askGateway(ctx, auditAppendPath, body); err != nil {
			return err
		}
	}
	return nil
}

// append appends lines as one batch.
func (a *auditor) append(ctx context.Context, lines [][]byte) error {
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

// What gateways do for processes that have none.
const (
	auditAppendPath = "/v1/audit/append"
	auditReadPath   = "/v1/audit/page"
	// maxPeerLines bounds the lines of one request; each has at most some kilobytes (see audit.Event).
	maxPeerLines = 32
)

// auditRoutes are what this process's gateways do for others.
func (p *process) auditRoutes() []coordinator.PeerRoute {
	a := &auditor{p: p}
	return []coordinator.PeerRoute{
		{Path: auditAppendPath, Serve: func(ctx context.Context, body []byte) ([]byte, error) {
			var texts []string
			if err := json.Unmarshal(body, &texts); err != nil {
				return nil, fmt.Errorf("%w: %w", coordinator.ErrPeerRequest, err)
			}
			if len(texts) == 0 || len(texts) > maxPeerLines {
				return nil, fmt.Errorf("%w: %d audit lines", coordinator.ErrPeerRequest, len(texts))
			}
			lines := make([][]byte, len(texts))
			for i, text := range texts {
				lines[i] = []byte(text)
				if _, ok := audit.Parse(lines[i]); !ok {
					return nil, fmt.Errorf("%w: no audit line", coordinator.ErrPeerRequest)
				}
			}
			if !p.started.Load() {
				return nil, errors.New("the process is starting")
			}
			ctx, cancel := context.WithTimeout(ctx, auditLimit)
			defer cancel()
			return []byte("{}"), a.append(ctx, lines)
		}},
		{Path: auditReadPath, Serve: func(ctx context.Context, body []byte) ([]byte, error) {
			var q audit.Query
			if err := json.Unmarshal(body, &q); err != nil {
				return nil, fmt.Errorf("%w: %w", coordinator.ErrPeerRequest, err)
			}
			if !p.started.Load() {
				return nil, errors.New("the process is starting")
			}
			page, err := a.topicEvents(ctx, q)
			if err != nil {
				return nil, err
			}
			return json.Marshal(page)
		}},
	}
}

// askGateway asks the gateways of other processes, one after the other, until one answers.
func (a *auditor) askGateway(ctx context.Context, path string, body []byte) ([]byte, error) {
	s := a.p.watcher.Snapshot()
	token, err := a.p.catalog.InternalToken(ctx)
	if err != nil {
		return nil, err
	}
	peers := coordinator.HTTPPeers(token, func(node int32) string { return s.Gateway(node).Peer })
	defer peers.Close()
	errs := []error{errors.New("no gateway took it")}
	for _, g := range s.Gateways() {
		out, err := peers.Post(ctx, g.Node, path, body)
		if err == nil {
			return out, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// Read reads the process's file and, where there is one, the topic, which holds all processes' events. An event that is in both is told once.
func (a *auditor) Read(ctx context.Context, q audit.Query) (audit.Page, error) {
	topic := a.wantsTopic(a.p.watcher.Snapshot())
	if !topic && a.path == "" {
		return audit.Page{}, &api.Error{Status: 404, Code: "unknown", Message: "this process keeps no audit log that it could read", Hint: "--set braid.audit.log=FILE or braid.audit.topic=on"}
	}
	var own, all audit.Page
	var err error
	if a.path != "" {
		if own, err = audit.Read(a.path, q); err != nil {
			return audit.Page{}, err
		}
	}
	if topic {
		if all, err = a.fromTopic(ctx, q); err != nil {
			hint := ""
			if a.path != "" {
				hint = "this process's own events are in " + a.path
			}
			return audit.Page{}, &api.Error{Status: 503, Code: "unavailable", Message: fmt.Sprintf("the audit topic cannot be read: %v", err), Hint: hint}
		}
	}
	return audit.Merge(q, own, all), nil
}

// fromTopic reads the topic by a gateway of this process, else by one of another.
func (a *auditor) fromTopic(ctx context.Context, q audit.Query) (audit.Page, error) {
	if len(a.p.nodes) > 0 {
		return a.topicEvents(ctx, q)
	}
	body, err := json.Marshal(q)
	if err != nil {
		return audit.Page{}, err
	}
	out, err := a.askGateway(ctx, auditReadPath, body)
	if err != nil {
		return audit.Page{}, err
	}
	var page audit.Page
	if err := json.Unmarshal(out, &page); err != nil {
		return page, fmt.Errorf("answer of another gateway: %w", err)
	}
	return page, nil
}

// topicEvents reads the topic in the chains of the process's first gateway.
func (a *auditor) topicEvents(ctx context.Context, q audit.Query) (audit.Page, error) {
	part, err := a.partition(ctx, false)
	if errors.Is(err, catalog.ErrNotFound) {
		return audit.Page{}, nil // nothing has happened yet
	}
	if err != nil {
		return audit.Page{}, err
	}
	return readAudit(ctx, part, q)
}
