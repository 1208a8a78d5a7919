package console

import (
	"context"
	"fmt"
	"net/http"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/internal/nearest"
)

func (s *Server) topics(r *http.Request) (any, error) {
	tenant, err := s.tenantOf(r)
	if err != nil {
		return nil, err
	}
	snap, err := s.opts.Watcher.Refresh(r.Context())
	if err != nil {
		return nil, err
	}
	out := []api.TopicSummary{}
	for t := range snap.Topics(tenant) {
		out = append(out, topicSummary(t, snap))
	}
	return out, nil
}

func (s *Server) topic(r *http.Request) (any, error) {
	tenant, err := s.tenantOf(r)
	if err != nil {
		return nil, err
	}
	return s.describe(r.Context(), tenant, r.PathValue("name"))
}

// describe shows a topic as the catalog has it now.
func (s *Server) describe(ctx context.Context, tenant, name string) (any, error) {
	snap, err := s.opts.Watcher.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	t := snap.TopicByName(tenant, name)
	if t == nil {
		return nil, unknownTopic(snap, tenant, name)
	}
	certs, err := s.opts.Catalog.Certificates(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	ops, err := s.opts.Catalog.Ops(ctx)
	if err != nil {
		return nil, err
	}
	return topicView(t, snap, ops, certs), nil
}

func (s *Server) createTopic(r *http.Request) (any, error) {
	tenant, err := s.tenantOf(r)
	if err != nil {
		return nil, err
	}
	req, err := body[api.TopicCreate](r)
	if err != nil {
		return nil, err
	}
	if req.Partitions == 0 {
		req.Partitions = s.opts.DefaultPartitions
	}
	if req.Partitions < 1 {
		return nil, &api.Error{Status: http.StatusBadRequest, Code: "invalid",
			Message: fmt.Sprintf("%d partitions: want at least 1", req.Partitions)}
	}
	if err := gateway.CheckTopicName(req.Name); err != nil {
		return nil, &api.Error{Status: http.StatusBadRequest, Code: "invalid", Message: err.Error()}
	}
	if gateway.ReservedTopic(req.Name) {
		return nil, &api.Error{Status: http.StatusBadRequest, Code: "invalid", Message: fmt.Sprintf("topic name %s is reserved for internal topics", req.Name), Hint: "choose another"}
	}
	spec := gateway.TopicSpec{Tenant: tenant, Name: req.Name, Partitions: req.Partitions,
		ReplicationFactor: -1, Config: req.Config}
	if _, err := s.opts.Admin.CreateTopicOn(r.Context(), spec, req.Cluster); err != nil {
		return nil, err
	}
	return s.describe(r.Context(), tenant, req.Name)
}

func (s *Server) deleteTopic(r *http.Request) (any, error) {
	tenant, err := s.tenantOf(r)
	if err != nil {
		return nil, err
	}
	snap, err := s.opts.Watcher.Refresh(r.Context())
	if err != nil {
		return nil, err
	}
	name := r.PathValue("name")
	t := snap.TopicByName(tenant, name)
	if t == nil {
		return nil, unknownTopic(snap, tenant, name)
	}
	return struct{}{}, s.opts.Admin.DeleteTopic(r.Context(), tenant, t.ID)
}

func unknownTopic(snap *catalog.Snapshot, tenant, name string) error {
	var known []string
	for t := range snap.Topics(tenant) {
		known = append(known, t.Name)
	}
	return unknown("topic", name, known, "braid topic list shows what there is")
}

func unknownCluster(snap *catalog.Snapshot, name string) error {
	var known []string
	for _, c := range snap.Clusters() {
		known = append(known, c.Name)
	}
	return unknown("cluster", name, known, "braid cluster list shows what there is")
}

func unknown(kind, name string, known []string, hint string) error {
	if n := nearest.Name(name, known); n != "" {
		hint = fmt.Sprintf("did you mean %q?", n)
	}
	return &api.Error{Status: http.StatusNotFound, Code: "unknown", Message: fmt.Sprintf("unknown %s %q", kind, name), Hint: hint}
}
