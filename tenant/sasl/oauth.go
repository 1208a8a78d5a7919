package sasl

import (
	"context"
	"errors"
	"strings"
)

// oauthExchange is OAUTHBEARER (RFC 7628). A token that is refused is first
// answered by a challenge that says so in JSON; the client says \x01, and only
// then the exchange fails.
type oauthExchange struct {
	s       *Server
	d       Directory
	over    bool
	refused error
	id      *Identity
}

func (e *oauthExchange) Identity() *Identity { return e.id }

// Refused implements [Refuser].
func (e *oauthExchange) Refused() *FailedError {
	var failed *FailedError
	errors.As(e.refused, &failed)
	return failed
}

// invalidToken is what a client hears of any token that is not good.
const invalidToken = `{"status":"invalid_token"}`

func (e *oauthExchange) Step(ctx context.Context, message []byte) ([]byte, error) {
	if e.refused != nil {
		return nil, e.refused
	}
	if e.over {
		return nil, invalid(OAuthBearer, "a second message")
	}
	e.over = true
	if len(message) > maxMessage {
		return nil, invalid(OAuthBearer, "the message is too long")
	}
	as, token, err := parseBearer(string(message))
	if err != nil {
		return nil, err
	}
	refuse := func(reason string) ([]byte, error) {
		e.refused = &FailedError{Client: invalidToken, Reason: reason}
		return []byte(invalidToken), nil
	}
	if e.s.oidc == nil {
		return refuse("no issuer of tokens is configured")
	}
	claims, err := e.s.oidc.Verify(ctx, token)
	if err != nil {
		return refuse(err.Error())
	}
	if as != "" && as != claims.Name {
		return refuse("the client wants to act as another user")
	}
	tenant, ok := e.d.Tenant(claims.Tenant)
	if !ok {
		return refuse("the token names no tenant that may sign on here")
	}
	e.id = &Identity{Mechanism: OAuthBearer, Tenant: tenant, Name: claims.Name, Expires: claims.Expires}
	return nil, nil
}

// parseBearer takes the client's first message apart:
//
//	n,a=NAME,\x01auth=Bearer TOKEN\x01key=value\x01\x01
//
// Extensions are checked for their form and have no meaning here.
func parseBearer(s string) (as, token string, err error) {
	bad := func(reason string) (string, string, error) { return "", "", invalid(OAuthBearer, reason) }
	head, rest, ok := strings.Cut(s, "\x01")
	if !ok || !strings.HasSuffix(rest, "\x01\x01") && rest != "\x01" {
		return bad("the message is cut short")
	}
	flag, name, ok := strings.Cut(head, ",")
	if !ok || flag != "n" && flag != "y" || !strings.HasSuffix(name, ",") {
		return bad("the header is malformed")
	}
	if name = strings.TrimSuffix(name, ","); name != "" {
		if name, ok = strings.CutPrefix(name, "a="); !ok {
			return bad("the header is malformed")
		}
		if as, err = unescape(name); err != nil {
			return bad(err.Error())
		}
	}
	for pair := range strings.SplitSeq(strings.TrimSuffix(rest, "\x01\x01"), "\x01") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" || strings.ContainsFunc(key, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }) {
			return bad("an extension is malformed")
		}
		if key != "auth" {
			continue
		}
		scheme, t, ok := strings.Cut(value, " ")
		if !ok || !strings.EqualFold(scheme, "bearer") || token != "" {
			return bad("no bearer token, or two")
		}
		token = strings.TrimSpace(t)
	}
	if token == "" {
		return bad("no bearer token")
	}
	return as, token, nil
}
