package console

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/tenant"
	"github.com/braidstream/braid/tenant/audit"
)

// Security says who is let in to the admin API, and how. The zero value is plain
// HTTP that lets everybody in as admin: for loopback.
type Security struct {
	TLS *gateway.TLSFiles // nil: plain HTTP
	// Mapping makes operators' names of certificates; nil: the common name.
	Mapping *tenant.Mapping
	// Demand keeps those out who sign on neither by a token nor by a certificate.
	Demand bool
	// OpenMetrics serves /metrics to those too who do not sign on.
	OpenMetrics bool
	// Loopback: only this machine reaches the server. A page in a browser of this
	// machine does so too, by a name of its own that it has resolved to loopback
	// (DNS rebinding), so requests must be for this machine's names or for Hosts.
	Loopback bool
	Hosts    []string
	// LocalToken is the SHA-256 of a token that is an admin's without being in the
	// catalog: that of who owns the process's data directory. nil: there is none.
	LocalToken []byte
}

// Names of those who are no operators of the catalog.
const (
	Anonymous = "anonymous" // let in unasked
	Local     = "local"     // has the token of the data directory
)

// TokenPrefix begins every operator's token, so that it is known for what it is
// where it should not be.
const TokenPrefix = "braid_"

// NewToken makes a token and what is kept of it.
func NewToken() (token string, hash []byte) {
	token = TokenPrefix + catalog.RandomName(52)
	return token, HashToken(token)
}

// HashToken is what is kept of a token.
func HashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// who is who sent a request.
type who struct {
	name string
	role catalog.Role
}

type whoKey struct{}

// asker tells who sent a request that was let in.
func asker(r *http.Request) who {
	w, _ := r.Context().Value(whoKey{}).(who)
	return w
}

func unauthenticated(format string, args ...any) error {
	return &api.Error{Status: http.StatusUnauthorized, Code: "unauthenticated", Message: fmt.Sprintf(format, args...),
		Hint: "BRAID_TOKEN or --token-file has an operator's token"}
}

// signOn finds out who sends a request: by a token, else by a certificate; who
// shows neither is nobody, and let in only where that is allowed. One who shows
// what is not good is let in nowhere.
func (s *Server) signOn(r *http.Request) (who, error) {
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, token, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return who{}, unauthenticated("the admin API takes Authorization: Bearer TOKEN")
		}
		hash := HashToken(strings.TrimSpace(token))
		if local := s.opts.Security.LocalToken; len(local) > 0 && string(local) == string(hash) {
			return who{Local, catalog.RoleAdmin}, nil
		}
		return standing(s.opts.Watcher.Snapshot().OperatorByToken(hash), "token")
	}
	if name, ok, err := s.certified(r); err != nil {
		return who{}, err
	} else if ok {
		return standing(s.opts.Watcher.Snapshot().Operator(name), "certificate")
	}
	if s.opts.Security.Demand {
		return who{}, unauthenticated("the admin API asks who you are")
	}
	return who{Anonymous, catalog.RoleAdmin}, nil
}

// certified is the name that a client's certificate is mapped to; false without one.
func (s *Server) certified(r *http.Request) (name string, ok bool, err error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return "", false, nil
	}
	cert := r.TLS.PeerCertificates[0]
	if name, ok = mapped(cert, s.opts.Security.Mapping); !ok || name == "" {
		return "", false, unauthenticated("the certificate is mapped to no operator")
	}
	return name, true, nil
}

func mapped(cert *x509.Certificate, m *tenant.Mapping) (string, bool) {
	if m == nil {
		return cert.Subject.CommonName, true
	}
	subject, err := tenant.Subject(cert.RawSubject)
	if err != nil {
		return "", false
	}
	return m.Name(subject)
}

// standing lets an operator in who is there and has not expired. What is wrong is
// told to nobody: a token that was somebody's once is not told from any other.
func standing(o *catalog.Operator, by string) (who, error) {
	if o == nil || o.Expired(time.Now()) {
		return who{}, unauthenticated("the %s is no operator's, or has expired", by)
	}
	return who{o.Name, o.Role}, nil
}

// guard lets a request through to what needs a role.
func (s *Server) guard(need catalog.Role, next func(http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		by, err := s.signOn(r)
		if err != nil {
			s.record(r, audit.Event{Kind: audit.Unauthenticated, Result: "failed", Detail: apiError(err).Message})
			w.Header().Set("WWW-Authenticate", `Bearer realm="braid"`)
			s.fail(w, r, err)
			return
		}
		signedOn(r)
		r = r.WithContext(context.WithValue(r.Context(), whoKey{}, by))
		if !by.role.Allows(need) {
			s.record(r, audit.Event{Kind: audit.Denied, Result: "denied", Detail: fmt.Sprintf("role %s, needs %s", by.role, need)})
			s.fail(w, r, &api.Error{Status: http.StatusForbidden, Code: "denied",
				Message: fmt.Sprintf("%s has the role %s: this needs %s", by.name, by.role, need)})
			return
		}
		next(w, r)
	}
}

// ownNames lets requests through that are for this machine, where only this
// machine is to reach the server. What a browser asks for by an address is not
// rebound; a name is good if it is known.
func (s *Server) ownNames(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.ownName(r.Host) {
			s.fail(w, r, &api.Error{Status: http.StatusMisdirectedRequest, Code: "denied",
				Message: fmt.Sprintf("%.100q is no name of the admin API", r.Host), Hint: "--http …,host=NAME adds one"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) ownName(host string) bool {
	sec := &s.opts.Security
	if !sec.Loopback && len(sec.Hosts) == 0 || host == "" { // a browser always says one
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.ToLower(strings.Trim(name, "[]")), ".")
	if name == "localhost" || slices.ContainsFunc(sec.Hosts, func(h string) bool { return strings.EqualFold(h, name) }) {
		return true
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}
