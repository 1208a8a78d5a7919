package gateway

import (
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/fair"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/tenant/sasl"
)

// guesses sends a wrong password, whose answer is not waited for.
func guesses(r *raw) {
	r.tb.Helper()
	hello := kmsg.NewPtrSASLHandshakeRequest()
	hello.Mechanism = sasl.Plain
	do[*kmsg.SASLHandshakeResponse](r, 1, hello)
	token := withVersion(kmsg.NewPtrSASLAuthenticateRequest(), 2)
	token.SASLAuthBytes = []byte("\x00alice\x00wrong")
	r.send(token)
}

// served waits until a gateway has so many connections.
func served(t *testing.T, g *Gateway, n int) {
	t.Helper()
	eventually(t, func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.conns) != n {
			return fmt.Errorf("%d connections instead of %d", len(g.conns), n)
		}
		return nil
	})
}

// A client that goes while its failure waits to be answered takes no place any more but one of its own address's;
// by TLS too.
func TestWhoLeavesInThePenaltyIsLetGo(t *testing.T) {
	t.Parallel()
	const n = maxDelayed + 3
	ca := testkit.NewCA(t, "ours")
	cert, key := ca.IssueTo(t, t.TempDir(), "server", pkix.Name{CommonName: "braid"}, nil)
	for name, s := range map[string]Security{
		"plain": {Mechanisms: mechanisms, Demand: true},
		"TLS":   {Mechanisms: mechanisms, Demand: true, TLS: &TLSFiles{Cert: cert, Key: key}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, secure(s), withConfig(func(c *Config) {
				c.FailedAuthDelay, c.MaxFailedAuthDelay, c.AuthTimeout = time.Hour, time.Hour, 2*time.Hour
				c.MaxUnauthenticatedPerIP = n
			}))
			f.user(catalog.DefaultTenant, "alice", "secret")
			g := f.gateways[0]
			var all []*raw
			for range n {
				var r *raw
				if s.TLS == nil {
					r = f.raw()
				} else {
					var err error
					if r, err = f.dialTLS(ca, nil); err != nil {
						t.Fatal(err)
					}
				}
				guesses(r)
				all = append(all, r)
			}
			eventually(t, func() error {
				g.penalties.mu.Lock()
				defer g.penalties.mu.Unlock()
				if d := g.penalties.delayed[origin("127.0.0.1")]; d != n {
					return fmt.Errorf("%d wait", d)
				}
				return nil
			})
			for _, r := range all {
				if err := r.nc.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
					t.Fatal(err)
				}
			}
			served(t, g, 0)
			eventually(t, func() error {
				if left := g.penalties.leftOf(origin("127.0.0.1")); left != n {
					return fmt.Errorf("%d of the address's own places are taken", left)
				}
				return nil
			})
			g.mu.Lock()
			unknown := g.unknown
			g.mu.Unlock()
			if unknown != 0 {
				t.Errorf("%d places are taken", unknown)
			}
			f.raw().closed() // of this address nobody more is let in
		})
	}
}

// Who cannot be looked at in time has not failed: nothing is counted against its address or its user, and it gets no
// answer, which a client would take for a wrong password.
func TestWaitingForATurnIsNoFailure(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}))
	f.user(catalog.DefaultTenant, "alice", "secret")
	g := f.gateways[0]
	g.signing = fair.NewGate(1, time.Hour)
	place, err := g.signing.Enter(t.Context(), "somebody")
	if err != nil {
		t.Fatal(err)
	}
	defer place.Leave(0)
	r := f.raw()
	guesses(r)
	queueOf(t, g.signing, 1)
	if err := g.Close(); err != nil { // whatever ends the waiting
		t.Fatal(err)
	}
	r.closed()
	g.penalties.mu.Lock()
	defer g.penalties.mu.Unlock()
	if len(g.penalties.addresses)+len(g.penalties.users) != 0 {
		t.Errorf("%v %v", g.penalties.addresses, g.penalties.users)
	}
}
