package sasl

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/braidstream/braid/catalog"
)

// scramExchange is SCRAM (RFC 5802) without channel binding, as Kafka has it:
// names are taken as they are, without a profile of stringprep.
//
//	client: n,,n=alice,r=NONCE
//	server: r=NONCE+MORE,s=SALT,i=ITERATIONS
//	client: c=biws,r=NONCE+MORE,p=PROOF
//	server: v=SIGNATURE
//
// The server's half of the nonce is fresh each time, so that a proof is of no
// use to anyone who has recorded it.
type scramExchange struct {
	s         *Server
	d         Directory
	mechanism string

	state       int
	user        *catalog.User // nil: nobody, and the exchange fails at its end
	cred        *catalog.Scram
	name        string // as the client gave it
	header      string // of GS2
	nonce       string // both halves
	firstBare   string
	serverFirst string
	id          *Identity
}

const (
	scramFirst = iota
	scramFinal
	scramOver
)

func (e *scramExchange) Identity() *Identity { return e.id }

func (e *scramExchange) Step(_ context.Context, message []byte) ([]byte, error) {
	state := e.state
	e.state = scramOver
	if len(message) > maxScram || !utf8.Valid(message) {
		return nil, invalid(e.mechanism, "a message that is too long or no text")
	}
	var answer []byte
	var err error
	switch state {
	case scramFirst:
		answer, err = e.first(string(message))
		e.state = scramFinal
	case scramFinal:
		answer, err = e.final(string(message))
	default:
		err = invalid(e.mechanism, "a message after the last")
	}
	if err != nil {
		e.state = scramOver
		return nil, err
	}
	return answer, nil
}

func (e *scramExchange) first(message string) ([]byte, error) {
	f, err := parseClientFirst(message)
	if err != nil {
		return nil, invalid(e.mechanism, err.Error())
	}
	if f.token {
		return nil, &FailedError{Client: "Delegation tokens are not supported: sign on with the user's own credentials", Reason: "a delegation token"}
	}
	if f.as != "" && f.as != f.name {
		return nil, invalid(e.mechanism, "the client wants to act as another user")
	}
	// Made for each name, so that one that somebody has takes as long.
	nobody := e.s.nobody(e.d, e.mechanism, f.name)
	if u := e.d.User(f.name); u != nil {
		if c, ok := u.Credentials[e.mechanism]; ok {
			e.user, e.cred = u, &c
		}
	}
	if e.cred == nil {
		e.cred = nobody
	}
	var more [18]byte
	rand.Read(more[:]) //nolint:errcheck // see NewCredential
	e.name, e.header, e.firstBare = f.name, f.header, f.bare
	e.nonce = f.nonce + base64.RawURLEncoding.EncodeToString(more[:])
	e.serverFirst = fmt.Sprintf("r=%s,s=%s,i=%d", e.nonce, base64.StdEncoding.EncodeToString(e.cred.Salt), e.cred.Iterations)
	return []byte(e.serverFirst), nil
}

func (e *scramExchange) final(message string) ([]byte, error) {
	f, err := parseClientFinal(message)
	if err != nil {
		return nil, invalid(e.mechanism, err.Error())
	}
	if f.binding != e.header {
		return nil, invalid(e.mechanism, "another header than in the first message")
	}
	// librdkafka before 2.6 repeats its own part before the whole; a broker looks at
	// the end alone. The proof covers the message as it was sent.
	if !strings.HasSuffix(f.nonce, e.nonce) {
		return nil, invalid(e.mechanism, "another nonce: a message of another exchange")
	}
	h := scramHash(e.mechanism)
	signed := e.firstBare + "," + e.serverFirst + "," + f.unproved
	key := keyed(h, e.cred.StoredKey, signed)
	if len(f.proof) != len(key) {
		return nil, invalid(e.mechanism, "a proof of another size")
	}
	for i := range key {
		key[i] ^= f.proof[i]
	}
	stored := h()
	stored.Write(key)
	right := hmac.Equal(stored.Sum(nil), e.cred.StoredKey)
	if e.user == nil || !right {
		failed := invalid(e.mechanism, "wrong password")
		if e.user == nil {
			failed.Reason = "no such user, or none with a credential for this mechanism"
		}
		failed.User = e.name
		return nil, failed
	}
	e.id = &Identity{Mechanism: e.mechanism, Tenant: e.user.Tenant, Name: e.user.Name, User: e.user, Credential: e.mechanism}
	return []byte("v=" + base64.StdEncoding.EncodeToString(keyed(h, e.cred.ServerKey, signed))), nil
}

type clientFirst struct {
	header, bare    string
	as, name, nonce string
	token           bool
}

// parseClientFirst takes gs2-header and client-first-message-bare apart.
func parseClientFirst(s string) (f clientFirst, err error) {
	rest, ok := strings.CutPrefix(s, "n,")
	if !ok {
		return f, fmt.Errorf("channel binding is asked for, or no SCRAM")
	}
	as, rest, ok := strings.Cut(rest, ",")
	if !ok {
		return f, fmt.Errorf("the first message is cut short")
	}
	if as != "" {
		if as, ok = strings.CutPrefix(as, "a="); !ok {
			return f, fmt.Errorf("the header is malformed")
		}
		if f.as, err = unescape(as); err != nil {
			return f, err
		}
	}
	f.header, f.bare = s[:len(s)-len(rest)], rest
	fields := strings.Split(rest, ",") // at most the message's length, which is bounded
	if len(fields) < 2 || !strings.HasPrefix(fields[0], "n=") || !strings.HasPrefix(fields[1], "r=") {
		return f, fmt.Errorf("the first message does not begin with name and nonce")
	}
	if f.name, err = unescape(fields[0][2:]); err != nil {
		return f, err
	}
	f.nonce = fields[1][2:]
	if f.name == "" || len(f.name) > maxName || f.nonce == "" || len(f.nonce) > maxName {
		return f, fmt.Errorf("name or nonce is empty or too long")
	}
	for i := range len(f.nonce) {
		if c := f.nonce[i]; c <= ' ' || c > '~' {
			return f, fmt.Errorf("the nonce holds bytes that it may not")
		}
	}
	for _, ext := range fields[2:] {
		if k, v, ok := strings.Cut(ext, "="); !ok || k == "" || k == "m" {
			return f, fmt.Errorf("an extension is malformed")
		} else if k == "tokenauth" && strings.EqualFold(v, "true") {
			f.token = true
		}
	}
	return f, nil
}

type clientFinal struct {
	binding, nonce, unproved string
	proof                    []byte
}

func parseClientFinal(s string) (f clientFinal, err error) {
	at := strings.LastIndex(s, ",p=")
	if at < 0 {
		return f, fmt.Errorf("the final message has no proof")
	}
	f.unproved = s[:at]
	if f.proof, err = base64.StdEncoding.DecodeString(s[at+3:]); err != nil {
		return f, fmt.Errorf("the proof is malformed")
	}
	fields := strings.Split(f.unproved, ",")
	if len(fields) < 2 || !strings.HasPrefix(fields[0], "c=") || !strings.HasPrefix(fields[1], "r=") {
		return f, fmt.Errorf("the final message does not begin with binding and nonce")
	}
	binding, err := base64.StdEncoding.DecodeString(fields[0][2:])
	if err != nil {
		return f, fmt.Errorf("the binding is malformed")
	}
	f.binding, f.nonce = string(binding), fields[1][2:]
	return f, nil
}

// unescape is saslname of RFC 5802: =2C is a comma, =3D an equals sign.
func unescape(s string) (string, error) {
	if !strings.Contains(s, "=") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '=' {
			b.WriteByte(s[i])
			continue
		}
		switch {
		case strings.HasPrefix(s[i:], "=2C"):
			b.WriteByte(',')
		case strings.HasPrefix(s[i:], "=3D"):
			b.WriteByte('=')
		default:
			return "", fmt.Errorf("the name is malformed")
		}
		i += 2
	}
	return b.String(), nil
}
