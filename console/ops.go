package console

import (
	"context"
	"net/http"
	"slices"
	"strconv"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/controller"
)

func (s *Server) opRequest(r *http.Request) (controller.OpRequest, error) {
	req, err := body[api.OpRequest](r)
	if err != nil {
		return controller.OpRequest{}, err
	}
	tenant, err := s.tenantOf(r)
	if err != nil {
		return controller.OpRequest{}, err
	}
	kind := catalog.OpKind(req.Kind)
	if !slices.Contains([]catalog.OpKind{catalog.OpMove, catalog.OpDrain, catalog.OpFailover, catalog.OpFailback}, kind) {
		return controller.OpRequest{}, &api.Error{Status: http.StatusBadRequest, Code: "invalid",
			Message: "unknown kind of operation " + strconv.Quote(req.Kind), Hint: "move, drain, failover or failback"}
	}
	return controller.OpRequest{Kind: kind, Tenant: tenant, Topics: req.Topics, Cluster: req.Cluster,
		To: req.To, Force: req.Force, Reason: "operator"}, nil
}

func (s *Server) submit(r *http.Request) (any, error) {
	req, err := s.opRequest(r)
	if err != nil {
		return nil, err
	}
	op, err := s.opts.Admin.Submit(r.Context(), req)
	if err != nil {
		return nil, err
	}
	return opView(op), nil
}

func (s *Server) plan(r *http.Request) (any, error) {
	req, err := s.opRequest(r)
	if err != nil {
		return nil, err
	}
	p, err := s.opts.Admin.Plan(r.Context(), req)
	if err != nil {
		return nil, err
	}
	return planView(p), nil
}

func (s *Server) ops(r *http.Request) (any, error) {
	list, err := s.opts.Catalog.Ops(r.Context())
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b catalog.Op) int { return b.Created.Compare(a.Created) })
	out := []api.Op{}
	for _, o := range list {
		out = append(out, opView(o))
	}
	return out, nil
}

// op shows one operation; with ?after=REVISION it waits until there is news of it.
func (s *Server) op(r *http.Request) (any, error) {
	var after int64
	if q := r.URL.Query().Get("after"); q != "" {
		n, err := strconv.ParseInt(q, 10, 64)
		if err != nil {
			return nil, &api.Error{Status: http.StatusBadRequest, Code: "invalid", Message: "after: want a revision, not " + strconv.Quote(q)}
		}
		after = n
	}
	id := r.PathValue("id")
	ctx, cancel := context.WithTimeout(r.Context(), maxWait)
	defer cancel()
	var changes <-chan struct{}
	if after > 0 {
		changes = s.opts.Catalog.OpChanges(ctx)
	}
	for {
		op, err := s.opts.Catalog.Op(r.Context(), id)
		if err != nil {
			return nil, s.unknownOp(err, id)
		}
		if op.Revision > after || op.IsFinished() || ctx.Err() != nil {
			return s.opWithCertificates(r.Context(), op)
		}
		select {
		case <-ctx.Done():
		case _, ok := <-changes:
			if !ok {
				changes = nil // the watch ended; the timeout answers
			}
		}
	}
}

// opWithCertificates adds what a finished operation certified.
func (s *Server) opWithCertificates(ctx context.Context, op catalog.Op) (any, error) {
	v := opView(op)
	if !op.IsFinished() {
		return v, nil
	}
	for _, t := range op.Topics {
		certs, err := s.opts.Catalog.Certificates(ctx, t.ID)
		if err != nil {
			return nil, err
		}
		for _, c := range certs {
			if c.Op == op.ID {
				v.Certificates = append(v.Certificates, certificateView(c))
			}
		}
	}
	return v, nil
}

func (s *Server) cancelOp(r *http.Request) (any, error) {
	op, err := s.opts.Admin.Cancel(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, s.unknownOp(err, r.PathValue("id"))
	}
	return opView(op), nil
}

func (s *Server) unknownOp(err error, id string) error {
	if e := apiError(err); e.Code == "unknown" {
		e.Message, e.Hint = "unknown operation "+strconv.Quote(id), "braid op list shows what there is"
		return e
	}
	return err
}
