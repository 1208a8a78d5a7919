// Package console serves the admin API of a process: JSON under /v1, metrics and
// health beside it. The shapes are those of package console/api.
package console

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
	DeleteUser(ctx context.Context, tenant, name string, force bool) error
}

// Limits of one request.
const (
	maxBody     = 1 << 20
	maxWait     = 20 * time.Second
	healthLimit = 2 * time.Second
	rightsLimit = 20 * time.Second
	// writeLimit is how long a request may take from its header to the end of its
	// answer: well above the longest wait of a handler, so that only who does not read is cut off.
	writeLimit = 3 * time.Minute
	// answerLimit is how long a handler may take: it has still the time to say that it was too long.
	answerLimit = writeLimit - 30*time.Second
)

// Options of a server.
type Options struct {
	Listen string // host:port
	// Listener is a socket of Listen that is open already; nil: Start opens it.
	Listener net.Listener
	Security Security
	Admin    Admin
	Rules    gateway.RuleAdmin
	Catalog  *catalog.Catalog
	Watcher  *catalog.Watcher
	Version  string
	// Fleet is the cluster id that clients see.
	Fleet string
	// DefaultPartitions of a topic that names none.
	DefaultPartitions int32
	// Warnings that stay in the status, such as an open listener.
	Warnings []string
	// Ready tells whether the process answers clients.
	Ready    func() error
	Gatherer prometheus.Gatherer
	Audit    Auditor // nil: nothing is written down
	Logger   *slog.Logger
}

// Server is the admin API of one process.
type Server struct {
	opts  Options
	ln    net.Listener
	gate  *bounded              // below ln
	certs *gateway.Certificates // nil: plain HTTP
	http  *http.Server
	done  chan error

	cancel  context.CancelFunc // of what keeps the certificates
	keeping sync.WaitGroup

	limit time.Duration // of handlers; 0: answerLimit
}

// Start listens and serves.
func Start(opts Options) (*Server, error) {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{opts: opts, done: make(chan error, 1), cancel: cancel}
	if err := s.listen(); err != nil {
		cancel()
		return nil, fmt.Errorf("admin API: %w", err)
	}
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      writeLimit,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ConnState:         s.gate.state,
		ConnContext:       s.gate.context,
		ErrorLog:          slog.NewLogLogger(opts.Logger.Handler(), slog.LevelDebug),
	}
	if s.certs != nil {
		s.keeping.Go(func() { s.certs.Keep(ctx, "admin API", opts.Logger) })
	}
	go func() { s.done <- s.http.Serve(s.ln) }()
	return s, nil
}

// listen opens the socket, and TLS on it with certificates as they are at each
// handshake.
func (s *Server) listen() error {
	if files := s.opts.Security.TLS; files != nil {
		var err error
		if s.certs, err = gateway.OpenCertificates(*files); err != nil {
			return err
		}
	}
	ln := s.opts.Listener
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", s.opts.Listen); err != nil {
			return err
		}
	}
	s.gate = newBounded(ln, maxConnections, maxPerAddress, strangerIdle)
	s.ln = s.gate
	if s.certs != nil {
		s.ln = tls.NewListener(s.ln, &tls.Config{MinVersion: tls.VersionTLS12,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.certs.Config(), nil }})
	}
	return nil
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Close ends the server; requests under way get until ctx is done.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	s.cancel()
	s.keeping.Wait()
	if serr := <-s.done; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n") // the peer went away: nobody to tell
}

// answer runs a handler and writes its result or error as JSON.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, h func(*http.Request) (any, error)) {
	s.receive(w, r)
	limit := s.limit
	if limit == 0 {
		limit = answerLimit
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	v, err := h(r.WithContext(ctx))
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		s.opts.Logger.Warn("an admin request took too long", "method", r.Method, "path", r.URL.Path, "err", err)
		err = &api.Error{Status: http.StatusServiceUnavailable, Code: "unavailable",
			Message: fmt.Sprintf("not done after %s, and no longer waited for", limit),
			Hint:    "what was begun may be done all the same: look before you ask again (braid status, braid topic list, braid op list)"}
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.opts.Logger.Debug("admin answer not written", "peer", r.RemoteAddr, "err", err)
	}
}

// receive reads a request's body, in the time that a client has for it. That time is over then: a connection that is still
// under its deadline while the handler works would end the handler's context with it, as if the client had left.
func (s *Server) receive(w http.ResponseWriter, r *http.Request) {
	if r.Body != nil && r.Body != http.NoBody {
		b, err := io.ReadAll(r.Body) // at most maxBody
		whole := io.Reader(bytes.NewReader(b))
		if err != nil {
			whole = io.MultiReader(whole, failing{err})
		}
		r.Body = io.NopCloser(whole)
	}
	if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		s.opts.Logger.Debug("deadline of an admin request", "peer", r.RemoteAddr, "err", err)
	}
}

// failing is the end of a body that could not be read whole.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// body decodes a request strictly.
func body[T any](r *http.Request) (T, error) {
	var v T
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return v, &bodyError{&api.Error{Status: http.StatusBadRequest, Code: "invalid", Message: "request body: " + err.Error()}}
	}
	return v, nil
}

// bodyError is that of a request which says something that the API has no name for: nobody knows what of it is secret.
type bodyError struct{ api *api.Error }

func (e *bodyError) Error() string { return e.api.Error() }
func (e *bodyError) Unwrap() error { return e.api }

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

// CertificatesRefused tells why the certificate files are not served with as they are now, "" if they are.
func (s *Server) CertificatesRefused() string {
	if s.certs == nil {
		return ""
	}
	return s.certs.Refused()
}
