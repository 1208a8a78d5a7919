// Package console serves the admin API of a process: JSON under /v1, metrics and
// health beside it. The shapes are those of package console/api.
package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/controller"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/span"
)

// Admin is what the API asks of the control plane; *controller.Admin is one.
type Admin interface {
	gateway.TopicAdmin
	// CreateTopicOn is CreateTopic on a named cluster; "" lets placement choose.
	CreateTopicOn(ctx context.Context, spec gateway.TopicSpec, cluster string) (catalog.Topic, error)
	AddCluster(ctx context.Context, spec controller.ClusterSpec) (catalog.Cluster, error)
	RemoveCluster(ctx context.Context, name string) error
	ClusterHealth(ctx context.Context, name string) (span.Health, error)
	ClusterRights(ctx context.Context, name string) ([]span.Right, error)
	// Kept lists what must stay on a cluster until when.
	Kept(ctx context.Context, name string) ([]controller.Kept, error)
	Submit(ctx context.Context, req controller.OpRequest) (catalog.Op, error)
	Plan(ctx context.Context, req controller.OpRequest) (controller.Plan, error)
	Cancel(ctx context.Context, id string) (catalog.Op, error)
	CreateTenant(ctx context.Context, name string, change controller.TenantChange) (catalog.Tenant, error)
	SetTenant(ctx context.Context, name string, change controller.TenantChange) (catalog.Tenant, error)
	DeleteTenant(ctx context.Context, name string, grace time.Duration) (catalog.Tenant, error)
	UndeleteTenant(ctx context.Context, name string) (catalog.Tenant, error)
	// AddUser and RotateUser return the password that they generated, "" if one was given.
	AddUser(ctx context.Context, tenant, name string, c controller.Credentials) (catalog.User, string, error)
	RotateUser(ctx context.Context, tenant, name string, c controller.Credentials) (catalog.User, string, error)
	DeleteUser(ctx context.Context, tenant, name string) error
}

// Limits of one request.
const (
	maxBody     = 1 << 20
	maxWait     = 20 * time.Second
	healthLimit = 2 * time.Second
	rightsLimit = 20 * time.Second
)

// Options of a server.
type Options struct {
	Listen  string // host:port
	Admin   Admin
	Rules   gateway.RuleAdmin
	Catalog *catalog.Catalog
	Watcher *catalog.Watcher
	Version string
	// Fleet is the cluster id that clients see.
	Fleet string
	// DefaultPartitions of a topic that names none.
	DefaultPartitions int32
	// Warnings that stay in the status, such as an open listener.
	Warnings []string
	// Ready tells whether the process answers clients.
	Ready    func() error
	Gatherer prometheus.Gatherer
	Logger   *slog.Logger
}

// Server is the admin API of one process.
type Server struct {
	opts Options
	ln   net.Listener
	http *http.Server
	done chan error
}

// Start listens and serves.
func Start(opts Options) (*Server, error) {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	ln, err := net.Listen("tcp", opts.Listen)
	if err != nil {
		return nil, fmt.Errorf("admin API: %w", err)
	}
	s := &Server{opts: opts, ln: ln, done: make(chan error, 1)}
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(opts.Logger.Handler(), slog.LevelDebug),
	}
	go func() { s.done <- s.http.Serve(ln) }()
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Close ends the server; requests under way get until ctx is done.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	if serr := <-s.done; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	v1 := func(pattern string, h func(*http.Request) (any, error)) {
		method, path := cutPattern(pattern)
		mux.HandleFunc(method+" "+api.Version+path, func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, h) })
	}
	v1("GET /status", s.status)
	v1("GET /clusters", s.clusters)
	v1("POST /clusters", s.addCluster)
	v1("GET /clusters/{name}", s.cluster)
	v1("GET /clusters/{name}/rights", s.clusterRights)
	v1("DELETE /clusters/{name}", s.removeCluster)
	v1("GET /topics", s.topics)
	v1("POST /topics", s.createTopic)
	v1("GET /topics/{name}", s.topic)
	v1("DELETE /topics/{name}", s.deleteTopic)
	v1("GET /tenants", s.tenants)
	v1("POST /tenants", s.createTenant)
	v1("GET /tenants/{tenant}", s.tenant)
	v1("PATCH /tenants/{tenant}", s.setTenant)
	v1("DELETE /tenants/{tenant}", s.deleteTenant)
	v1("POST /tenants/{tenant}/undelete", s.undeleteTenant)
	v1("GET /tenants/{tenant}/users", s.users)
	v1("POST /tenants/{tenant}/users", s.addUser)
	v1("POST /tenants/{tenant}/users/{user}/rotate", s.rotateUser)
	v1("DELETE /tenants/{tenant}/users/{user}", s.deleteUser)
	v1("GET /tenants/{tenant}/acls", s.acls)
	v1("POST /tenants/{tenant}/acls", s.addACLs)
	v1("POST /tenants/{tenant}/acls/delete", s.deleteACLs)
	v1("GET /tenants/{tenant}/quotas", s.quotas)
	v1("POST /tenants/{tenant}/quotas", s.setQuota)
	v1("GET /ops", s.ops)
	v1("POST /ops", s.submit)
	v1("POST /plans", s.plan)
	v1("GET /ops/{id}", s.op)
	v1("POST /ops/{id}/cancel", s.cancelOp)
	mux.HandleFunc(api.Version+"/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, &api.Error{Status: http.StatusNotFound, Code: "unknown_resource",
			Message: fmt.Sprintf("no resource %s %s", r.Method, r.URL.Path)})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.opts.Gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.opts.Ready(); err != nil {
			plain(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		plain(w, http.StatusOK, "ready")
	})
	// A page that the operator's browser shows must not administer the fleet: the
	// API asks nobody who they are, and loopback is no bound to a browser.
	return http.MaxBytesHandler(http.NewCrossOriginProtection().Handler(mux), maxBody)
}

func cutPattern(pattern string) (method, path string) {
	for i := range pattern {
		if pattern[i] == ' ' {
			return pattern[:i], pattern[i+1:]
		}
	}
	return "", pattern
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n") // the peer went away: nobody to tell
}

// answer runs a handler and writes its result or error as JSON.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, h func(*http.Request) (any, error)) {
	v, err := h(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.opts.Logger.Debug("admin answer not written", "peer", r.RemoteAddr, "err", err)
	}
}

// body decodes a request strictly.
func body[T any](r *http.Request) (T, error) {
	var v T
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return v, &api.Error{Status: http.StatusBadRequest, Code: "invalid", Message: "request body: " + err.Error()}
	}
	return v, nil
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := apiError(err)
	if e.Status >= http.StatusInternalServerError {
		s.opts.Logger.Warn("admin request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	if werr := json.NewEncoder(w).Encode(map[string]*api.Error{"error": e}); werr != nil {
		s.opts.Logger.Debug("admin answer not written", "peer", r.RemoteAddr, "err", werr)
	}
}
