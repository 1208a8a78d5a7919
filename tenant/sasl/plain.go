package sasl

import (
	"bytes"
	"context"
	"unicode/utf8"

	"github.com/braidstream/braid/catalog"
)

// plainExchange is PLAIN (RFC 4616): one message with name and password, which is
// compared with the user's SCRAM credential. Whatever is wrong, the client hears the same.
type plainExchange struct {
	s    *Server
	d    Directory
	over bool
	id   *Identity
}

func (e *plainExchange) Identity() *Identity { return e.id }

func plainFailed(reason string) *FailedError {
	return &FailedError{Client: "Authentication failed: Invalid username or password", Reason: reason}
}

func (e *plainExchange) Step(ctx context.Context, message []byte) ([]byte, error) {
	if e.over {
		return nil, plainFailed("a second message")
	}
	e.over = true
	if len(message) > 2*maxName+MaxPassword+2 {
		return nil, plainFailed("the message is too long")
	}
	as, rest, ok1 := bytes.Cut(message, []byte{0})
	name, password, ok2 := bytes.Cut(rest, []byte{0})
	switch {
	case !ok1 || !ok2 || bytes.IndexByte(password, 0) >= 0:
		return nil, plainFailed("the message does not have three parts")
	case len(name) == 0 || len(password) == 0 || len(name) > maxName || len(password) > MaxPassword || !utf8.Valid(name):
		return nil, plainFailed("no name or no password, or one that is too long")
	case len(as) > 0 && !bytes.Equal(as, name):
		return nil, plainFailed("the client wants to act as another user")
	}
	nobody := e.s.nobody(e.d, ScramSHA256, string(name)) // made for each name, so that one that somebody has takes as long
	user := e.d.User(string(name))
	mechanism, cred := passwordCredential(user)
	if cred == nil {
		user = nil
		mechanism, cred = ScramSHA256, nobody
	}
	right, err := e.s.passwordIs(ctx, mechanism, cred, string(password), user != nil)
	reason := ""
	switch {
	case err != nil:
		reason = "the password could not be compared: " + err.Error()
	case user == nil:
		reason = "no such user"
	case !right:
		reason = "wrong password"
	}
	if reason != "" {
		failed := plainFailed(reason)
		failed.User = string(name)
		return nil, failed
	}
	e.id = &Identity{Mechanism: Plain, Tenant: user.Tenant, Name: user.Name, User: user, Credential: mechanism}
	return nil, nil
}

// passwordCredential picks the credential that costs the least to compare with.
func passwordCredential(u *catalog.User) (string, *catalog.Scram) {
	if u == nil {
		return "", nil
	}
	for _, m := range []string{ScramSHA256, ScramSHA512} {
		if c, ok := u.Credentials[m]; ok {
			return m, &c
		}
	}
	return "", nil
}
