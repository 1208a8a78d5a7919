package gateway

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/sasl"
	"github.com/braidstream/braid/wire"
)

// What SCRAM answers to a name says nothing of whether somebody has it, also where Kafka's tools made the credentials.
func TestScramTellsNothingOfNames(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}))
	f.acme(0)
	salt := func(i int) []byte { return fmt.Appendf(nil, "%026d", i) }
	for i := range 5 {
		c, err := sasl.FromSalted(sasl.ScramSHA256, salt(i), make([]byte, 32), 4096)
		if err != nil {
			t.Fatal(err)
		}
		u := catalog.User{Tenant: "acme", Name: fmt.Sprint("kafka-", i), Credentials: map[string]catalog.Scram{sasl.ScramSHA256: c}, Bare: catalog.BareClaimed}
		if _, err := f.cat.PutUser(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.cat.DeleteUser(t.Context(), "acme", "joe", -1); err != nil {
		t.Fatal(err)
	}
	f.watchUntil(func(s *catalog.Snapshot) bool { return len(s.Users("acme")) == 5 && s.User("acme", "joe") == nil })
	form := regexp.MustCompile(`^r=n[^,]+,s=[A-Za-z0-9+/]{35}=,i=4096$`)
	first := func(name string) string {
		r := f.raw()
		hello := kmsg.NewPtrSASLHandshakeRequest()
		hello.Mechanism = sasl.ScramSHA256
		do[*kmsg.SASLHandshakeResponse](r, 1, hello)
		token := kmsg.NewPtrSASLAuthenticateRequest()
		token.SASLAuthBytes = []byte("n,,n=" + name + ",r=n")
		resp := do[*kmsg.SASLAuthenticateResponse](r, 2, token)
		if resp.ErrorCode != 0 {
			t.Fatalf("%s: %v", name, wire.Code(resp.ErrorCode))
		}
		return string(resp.SASLAuthBytes)
	}
	for _, name := range []string{"kafka-1", "kafka-1@acme", "kafka-9", "kafka-9@acme", "x@acme", "x", "x@nowhere"} {
		if got := first(name); !form.MatchString(got) {
			t.Errorf("%s: %s", name, got)
		}
	}
}
