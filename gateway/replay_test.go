package gateway

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/sasl"
	"github.com/braidstream/braid/wire"
)

// What somebody recorded of an exchange is worth nothing in another, nor is a part of a message: each is answered
// as a wrong password is, and ends the connection.
func TestReplayedAndTornMessages(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}))
	f.user(catalog.DefaultTenant, "alice", "secret")
	begin := func(tb testing.TB, mechanism string) *raw {
		r := f.raw()
		r.tb = tb
		hello := kmsg.NewPtrSASLHandshakeRequest()
		hello.Mechanism = mechanism
		if resp := do[*kmsg.SASLHandshakeResponse](r, 1, hello); resp.ErrorCode != 0 {
			tb.Fatal(wire.Code(resp.ErrorCode))
		}
		return r
	}
	say := func(r *raw, message []byte) *kmsg.SASLAuthenticateResponse {
		req := kmsg.NewPtrSASLAuthenticateRequest()
		req.SASLAuthBytes = message
		return do[*kmsg.SASLAuthenticateResponse](r, 2, req)
	}
	// An exchange, as somebody who listens records it.
	session, first, err := as("alice", "secret").Authenticate(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	r := begin(t, sasl.ScramSHA256)
	answer := say(r, first)
	_, final, err := session.Challenge(answer.SASLAuthBytes)
	if err != nil {
		t.Fatal(err)
	}
	if resp := say(r, final); resp.ErrorCode != 0 {
		t.Fatal(wire.Code(resp.ErrorCode))
	}
	r.metadata()

	plainText := []byte("\x00alice\x00secret")
	for _, c := range []struct {
		name, mechanism string
		messages        [][]byte // the last is refused
	}{
		{"a replay", sasl.ScramSHA256, [][]byte{first, final}},
		{"a replay of the end", sasl.ScramSHA256, [][]byte{final}},
		{"by another mechanism", sasl.ScramSHA512, [][]byte{first, final}},
		{"a torn first message", sasl.ScramSHA256, [][]byte{first[:6]}},
		{"half a last message", sasl.ScramSHA256, [][]byte{first, final[:len(final)/2]}},
		{"nothing", sasl.ScramSHA256, [][]byte{nil}},
		{"nothing at the end", sasl.ScramSHA256, [][]byte{first, nil}},
		{"a torn password", sasl.Plain, [][]byte{plainText[:len(plainText)-2]}},
		{"a torn name", sasl.Plain, [][]byte{plainText[:4]}},
		{"no password", sasl.Plain, [][]byte{[]byte("\x00alice\x00")}},
		{"too many parts", sasl.Plain, [][]byte{append(plainText, "\x00more"...)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := begin(t, c.mechanism)
			for i, m := range c.messages {
				resp := say(r, m)
				if last := i == len(c.messages)-1; last != (wire.Code(resp.ErrorCode) == wire.SASLAuthenticationFailed) || !last && resp.ErrorCode != 0 {
					t.Fatal(fmt.Sprint("message ", i, ": ", wire.Code(resp.ErrorCode)))
				}
			}
			r.closed()
		})
	}
	r.metadata() // who came in by them goes on
}
