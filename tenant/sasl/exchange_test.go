package sasl

import (
	"context"
	"crypto/pbkdf2"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	client "github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/braidstream/braid/catalog"
)

// book is a directory of users by name.
type book map[string]*catalog.User

func (b book) User(name string) *catalog.User { return b[name] }
func (b book) Tenant(named string) (string, bool) {
	if named == "" {
		named = "acme"
	}
	return named, named == "acme"
}

func (b book) Like(name string) Place {
	of := Shapes{}
	for _, u := range b {
		of.Add(u)
	}
	return Place{Name: name, All: of, Spelled: -1}
}

func users(t testing.TB, passwords map[string]string, mechanisms ...string) book {
	t.Helper()
	b := book{}
	for name, password := range passwords {
		u := &catalog.User{Tenant: "acme", Name: name, Credentials: map[string]catalog.Scram{}}
		for _, m := range mechanisms {
			c, err := NewCredential(m, password, MinIterations)
			if err != nil {
				t.Fatal(err)
			}
			u.Credentials[m] = c
		}
		b[name] = u
	}
	return b
}

func server(o *OIDC) *Server {
	return NewServer(Options{Secret: []byte("fleet"), Derivations: 2, OIDC: o})
}

// talk lets a real client sign on.
func talk(s *Server, d Directory, m client.Mechanism) (*Identity, error) {
	e := s.Begin(m.Name(), d)
	session, message, err := m.Authenticate(context.Background(), "localhost")
	if err != nil {
		return nil, err
	}
	for range 10 {
		answer, err := e.Step(context.Background(), message)
		if err != nil {
			return nil, err
		}
		done, next, err := session.Challenge(answer)
		if err != nil {
			return nil, err
		}
		if done {
			return e.Identity(), nil
		}
		message = next
	}
	return nil, errors.New("does not come to an end")
}

func TestClientsSignOn(t *testing.T) {
	s := server(nil)
	both := users(t, map[string]string{"alice": "secret", "o,o=": "p,=w"}, ScramSHA256, ScramSHA512)
	only := users(t, map[string]string{"bob": "secret"}, ScramSHA512)
	for _, c := range []struct {
		name string
		m    client.Mechanism
		d    Directory
		want string // "": refused
		says string
	}{
		{"PLAIN", plain.Auth{User: "alice", Pass: "secret"}.AsMechanism(), both, "alice", ""},
		{"PLAIN again, from memory", plain.Auth{User: "alice", Pass: "secret"}.AsMechanism(), both, "alice", ""},
		{"PLAIN by SHA-512", plain.Auth{User: "bob", Pass: "secret"}.AsMechanism(), only, "bob", ""},
		{"PLAIN as itself", plain.Auth{Zid: "alice", User: "alice", Pass: "secret"}.AsMechanism(), both, "alice", ""},
		{"PLAIN as another", plain.Auth{Zid: "root", User: "alice", Pass: "secret"}.AsMechanism(), both, "", "Invalid username or password"},
		{"PLAIN wrong", plain.Auth{User: "alice", Pass: "Secret"}.AsMechanism(), both, "", "Invalid username or password"},
		{"PLAIN nobody", plain.Auth{User: "nobody", Pass: "secret"}.AsMechanism(), both, "", "Invalid username or password"},
		{"256", scram.Auth{User: "alice", Pass: "secret"}.AsSha256Mechanism(), both, "alice", ""},
		{"512", scram.Auth{User: "alice", Pass: "secret"}.AsSha512Mechanism(), both, "alice", ""},
		{"escaped", scram.Auth{User: "o,o=", Pass: "p,=w"}.AsSha256Mechanism(), both, "o,o=", ""},
		{"wrong", scram.Auth{User: "alice", Pass: "no"}.AsSha256Mechanism(), both, "", "invalid credentials with SASL mechanism SCRAM-SHA-256"},
		{"nobody", scram.Auth{User: "nobody", Pass: "secret"}.AsSha256Mechanism(), both, "", "invalid credentials with SASL mechanism SCRAM-SHA-256"},
		{"no such credential", scram.Auth{User: "bob", Pass: "secret"}.AsSha256Mechanism(), only, "", "invalid credentials with SASL mechanism SCRAM-SHA-256"},
		{"delegation token", scram.Auth{User: "alice", Pass: "secret", IsToken: true}.AsSha256Mechanism(), both, "", "Delegation tokens are not supported"},
		{"no issuer", oauth.Auth{Token: "a.b.c"}.AsMechanism(), both, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, err := talk(s, c.d, c.m)
			if c.want == "" {
				var failed *FailedError
				if err == nil || id != nil {
					t.Fatalf("signed on as %+v", id)
				}
				if errors.As(err, &failed) && !strings.Contains(failed.Client, c.says) {
					t.Errorf("the client is told %q", failed.Client)
				}
				if strings.Contains(err.Error(), "secret") && c.name != "no issuer" {
					t.Errorf("the password is in %q", err)
				}
				return
			}
			if err != nil || id == nil || id.Name != c.want || id.Tenant != "acme" || id.Mechanism != c.m.Name() || id.User == nil || id.Credential == "" {
				t.Fatalf("%+v, %v", id, err)
			}
		})
	}
}

// The exchange with a user who does not exist looks like one with a user who
// does, and the same each time, on every gateway.
func TestNobodyIsLikeSomebody(t *testing.T) {
	b := users(t, map[string]string{"alice": "secret"}, ScramSHA256)
	first := func(s *Server, name string) (salt, iterations string) {
		answer, err := s.Begin(ScramSHA256, b).Step(t.Context(), []byte("n,,n="+name+",r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(string(answer), ",")
		if len(parts) != 3 || !strings.HasPrefix(parts[0], "r=abc") || len(parts[0]) != len("r=abc")+24 {
			t.Fatalf("%q", answer)
		}
		return parts[1], parts[2]
	}
	salt, _ := first(server(nil), "nobody")
	if again, _ := first(server(nil), "nobody"); again != salt {
		t.Error("the salt of nobody changes")
	}
	if other, _ := first(server(nil), "no-one"); other == salt {
		t.Error("two names that are nobody's have one salt")
	}
	real1, _ := first(server(nil), "alice")
	if len(real1) != len(salt) {
		t.Errorf("a salt of %d, of nobody %d", len(real1), len(salt))
	}
}

func TestScramMessages(t *testing.T) {
	s := server(nil)
	b := users(t, map[string]string{"alice": "secret"}, ScramSHA256)
	for _, first := range []string{
		"", "n", "n,", "n,,", "y,,n=alice,r=x", "p=tls-unique,,n=alice,r=x", "n,b=x,n=alice,r=x", "n,a=bob,n=alice,r=x",
		"n,,n=alice", "n,,r=x,n=alice", "n,,n=,r=x", "n,,n=alice,r=", "n,,n=al=ice,r=x", "n,,n=alice,r=a b", "n,,n=alice,r=x,m=1", "n,,n=alice,r=x,ext",
		"n,,n=" + strings.Repeat("a", maxName+1) + ",r=x", strings.Repeat("n", maxScram+1), "n,,n=\xff,r=x",
	} {
		e := s.Begin(ScramSHA256, b)
		if answer, err := e.Step(t.Context(), []byte(first)); !errors.Is(err, ErrFailed) {
			t.Errorf("%.60q is answered %q, %v", first, answer, err)
		}
		if _, err := e.Step(t.Context(), []byte("n,,n=alice,r=x")); !errors.Is(err, ErrFailed) {
			t.Errorf("after %.60q the exchange goes on", first)
		}
	}
	for _, final := range []string{
		"", "c=biws", "c=biws,r=NONCE", "c=biws,r=NONCE,p=", "c=biws,r=NONCE,p=!", "c=biws,r=x,p=AAAA", "r=NONCE,c=biws,p=AAAA", "c=!,r=NONCE,p=AAAA",
		"c=eSws,r=NONCE,p=AAAA", ",p=AAAA", "c=biws,r=NONCE,p=" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
	} {
		e := s.Begin(ScramSHA256, b)
		answer, err := e.Step(t.Context(), []byte("n,,n=alice,r=x"))
		if err != nil {
			t.Fatal(err)
		}
		nonce, _, _ := strings.Cut(strings.TrimPrefix(string(answer), "r="), ",")
		if _, err := e.Step(t.Context(), []byte(strings.ReplaceAll(final, "NONCE", nonce))); !errors.Is(err, ErrFailed) || e.Identity() != nil {
			t.Errorf("%q: %v", final, err)
		}
	}
}

// A whole exchange that was recorded is of no use, whichever message of it is said again.
func TestReplayedScram(t *testing.T) {
	s := server(nil)
	b := users(t, map[string]string{"alice": "secret"}, ScramSHA256)
	session, first, err := scram.Auth{User: "alice", Pass: "secret"}.AsSha256Mechanism().Authenticate(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	e := s.Begin(ScramSHA256, b)
	answer, err := e.Step(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	_, final, err := session.Challenge(answer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Step(t.Context(), final); err != nil || e.Identity() == nil {
		t.Fatal(err)
	}
	if _, err := e.Step(t.Context(), final); !errors.Is(err, ErrFailed) {
		t.Errorf("a message after the end: %v", err)
	}
	again := s.Begin(ScramSHA256, b)
	if _, err := again.Step(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Step(t.Context(), final); !errors.Is(err, ErrFailed) || again.Identity() != nil {
		t.Errorf("replayed: %v", err)
	}
}

// librdkafka before 2.6 says its own half of the nonce once more before the whole.
// The proof covers what is said.
func TestNonceSaidOnceMore(t *testing.T) {
	s := server(nil)
	b := users(t, map[string]string{"alice": "secret"}, ScramSHA256, ScramSHA512)
	for _, c := range []struct {
		name, mechanism, password string
		nonce                     func(own, whole string) string
		ok                        bool
	}{
		{"as the RFC has it", ScramSHA256, "secret", func(_, whole string) string { return whole }, true},
		{"its own half again", ScramSHA256, "secret", func(own, whole string) string { return own + whole }, true},
		{"its own half again", ScramSHA512, "secret", func(own, whole string) string { return own + whole }, true},
		{"its own half again, wrong password", ScramSHA256, "Secret", func(own, whole string) string { return own + whole }, false},
		{"more at the end", ScramSHA256, "secret", func(own, whole string) string { return whole + own }, false},
		{"its own half alone", ScramSHA256, "secret", func(own, _ string) string { return own }, false},
		{"the server's half alone", ScramSHA256, "secret", func(own, whole string) string { return strings.TrimPrefix(whole, own) }, false},
		{"nothing", ScramSHA256, "secret", func(string, string) string { return "" }, false},
	} {
		const own, firstBare = "fyko+d2lbbFgONRv9qkxdawL", "n=alice,r=fyko+d2lbbFgONRv9qkxdawL"
		e := s.Begin(c.mechanism, b)
		answer, err := e.Step(t.Context(), []byte("n,,"+firstBare))
		if err != nil {
			t.Fatal(err)
		}
		whole, _, _ := strings.Cut(strings.TrimPrefix(string(answer), "r="), ",")
		cred, h := b["alice"].Credentials[c.mechanism], scramHash(c.mechanism)
		salted, err := pbkdf2.Key(h, c.password, cred.Salt, cred.Iterations, h().Size())
		if err != nil {
			t.Fatal(err)
		}
		final := "c=biws,r=" + c.nonce(own, whole)
		proof := keyed(h, salted, "Client Key")
		stored := h()
		stored.Write(proof)
		for i, x := range keyed(h, stored.Sum(nil), firstBare+","+string(answer)+","+final) {
			proof[i] ^= x
		}
		_, err = e.Step(t.Context(), []byte(final+",p="+base64.StdEncoding.EncodeToString(proof)))
		switch {
		case c.ok && (err != nil || e.Identity() == nil):
			t.Errorf("%s, %s: %v", c.mechanism, c.name, err)
		case !c.ok && (!errors.Is(err, ErrFailed) || e.Identity() != nil):
			t.Errorf("%s, %s: signed on, %v", c.mechanism, c.name, err)
		}
	}
}

// A new password makes the old one wrong at once, remembered or not.
func TestRotatedPassword(t *testing.T) {
	s := server(nil)
	b := users(t, map[string]string{"alice": "old"}, ScramSHA256)
	old, young := plain.Auth{User: "alice", Pass: "old"}.AsMechanism(), plain.Auth{User: "alice", Pass: "young"}.AsMechanism()
	if _, err := talk(s, b, old); err != nil {
		t.Fatal(err)
	}
	b["alice"] = users(t, map[string]string{"alice": "young"}, ScramSHA256)["alice"]
	if _, err := talk(s, b, old); !errors.Is(err, ErrFailed) {
		t.Errorf("the old password: %v", err)
	}
	if _, err := talk(s, b, young); err != nil {
		t.Errorf("the new password: %v", err)
	}
}

// Who waits for a turn to compute gives up with its context.
func TestDerivationsAreBounded(t *testing.T) {
	s := server(nil)
	for range cap(s.turns) {
		s.turns <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	b := users(t, map[string]string{"alice": "secret"}, ScramSHA256)
	if _, err := s.Begin(Plain, b).Step(ctx, []byte("\x00alice\x00secret")); !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
}

// Whatever a client says, an exchange ends soon, and only with the password in an identity.
func FuzzExchange(f *testing.F) {
	for _, m := range []string{Plain, ScramSHA256, ScramSHA512, OAuthBearer} {
		f.Add(m, []byte("\x00alice\x00guess"), []byte("c=biws,r=x,p=AAAA"))
		f.Add(m, []byte("n,,n=alice,r=x"), []byte("c=biws,r=x,p=AAAA"))
		f.Add(m, []byte("n,,\x01auth=Bearer a.b.c\x01k=v\x01\x01"), []byte("\x01"))
	}
	o, err := NewOIDC(OIDCConfig{Issuer: "http://127.0.0.1:1", Audience: []string{"a"}})
	if err != nil {
		f.Fatal(err)
	}
	s := server(o)
	b := users(f, map[string]string{"alice": "a password that no fuzzer guesses"}, ScramSHA256, ScramSHA512)
	f.Fuzz(func(t *testing.T, mechanism string, first, second []byte) {
		e := s.Begin(mechanism, b)
		if (e == nil) == Known(mechanism) {
			t.Fatalf("mechanism %q: %v", mechanism, e)
		}
		if e == nil {
			return
		}
		for _, m := range [][]byte{first, second, first} {
			answer, err := e.Step(t.Context(), m)
			if e.Identity() != nil {
				t.Fatal("signed on without a password")
			}
			if err != nil && (!errors.Is(err, ErrFailed) || answer != nil) {
				t.Fatalf("%q, %v", answer, err)
			}
		}
		o.Close()
	})
}

// A name that nobody has is answered in the shape of those that somebody has: by iterations, and by the salt's length
// and letters; where they differ each name has one of them for good, and each is had as often as by users.
func TestNobodyLooksLikeTheOthers(t *testing.T) {
	s := server(nil)
	shapeOf := func(c *catalog.Scram) Shape {
		of := Shapes{}
		of.Add(&catalog.User{Credentials: map[string]catalog.Scram{ScramSHA256: *c}})
		for shape := range of[ScramSHA256] {
			return shape
		}
		t.Fatal("no shape")
		return Shape{}
	}
	credential := func(iterations int, salt string) map[string]catalog.Scram {
		return map[string]catalog.Scram{ScramSHA256: {Iterations: iterations, Salt: []byte(salt)}}
	}
	kafka := Shape{4096, 26, true}
	all := book{"ann": {Credentials: credential(4096, "abcdefghijklmnopqrstuvwxyz")}}
	for i := range 50 {
		c := s.nobody(all, ScramSHA256, fmt.Sprint("nobody-", i))
		if got := shapeOf(c); got != kafka {
			t.Fatalf("%+v", got)
		}
		if len(c.StoredKey) != 32 || len(c.ServerKey) != 32 {
			t.Errorf("keys of %d and %d bytes", len(c.StoredKey), len(c.ServerKey))
		}
	}
	long := book{"ann": {Credentials: credential(5000, strings.Repeat("\x00", 256))}}
	if got := shapeOf(s.nobody(long, ScramSHA256, "nobody")); got.Salt != 256 || got.Iterations != 5000 {
		t.Errorf("%+v", got)
	}
	if got := shapeOf(s.nobody(all, ScramSHA512, "nobody")); got.Iterations != DefaultIterations || got.Salt != saltSize {
		t.Errorf("without a user of the mechanism: %+v", got)
	}
	mixed := book{}
	for i := range 40 {
		mixed[fmt.Sprint("u", i)] = &catalog.User{Credentials: credential(4096, "abcdefghijklmnopqrstuvwxyz")}
		if i < 10 {
			mixed[fmt.Sprint("v", i)] = &catalog.User{Credentials: credential(8192, strings.Repeat("\xff", 16))}
		}
	}
	first, had := map[string]Shape{}, map[Shape]int{}
	const names = 2000
	for i := range names {
		name := fmt.Sprint("nobody-", i)
		first[name] = shapeOf(s.nobody(mixed, ScramSHA256, name))
		had[first[name]]++
	}
	if n := had[kafka]; len(had) != 2 || n < names*70/100 || n > names*90/100 {
		t.Errorf("shapes of names that nobody has: %v", had)
	}
	// One user more changes next to none of them.
	mixed["w"] = &catalog.User{Credentials: credential(8192, strings.Repeat("\xff", 16))}
	changed := 0
	for name, was := range first {
		if shapeOf(s.nobody(mixed, ScramSHA256, name)) != was {
			changed++
		}
	}
	if changed > names*5/100 {
		t.Errorf("%d of %d names look otherwise", changed, names)
	}
	// Tenants that do not exist look alike within, and differ as those that exist may.
	of := map[Shape]bool{}
	for i := range 50 {
		away := elsewhere{mixed, fmt.Sprint("tenant-", i)}
		one := shapeOf(s.nobody(away, ScramSHA256, "a@"+away.tenant))
		of[one] = true
		for k := range 20 {
			if got := shapeOf(s.nobody(away, ScramSHA256, fmt.Sprint(k, "@", away.tenant))); got != one {
				t.Fatalf("%+v and %+v", one, got)
			}
		}
	}
	if len(of) != 2 {
		t.Errorf("%v", of)
	}
}

// elsewhere is a directory for names of a tenant that does not exist.
type elsewhere struct {
	book
	tenant string
}

func (e elsewhere) Like(name string) Place {
	at := e.book.Like(name)
	at.Tenant = e.tenant
	return at
}
