package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/internal/nearest"
)

// maxOperators bounds how many there are: each process keeps them all in mind.
const maxOperators = 1000

// maxExpiry is how far ahead an expiry may be.
const maxExpiry = 10 * 365 * 24 * time.Hour

func operatorView(o *catalog.Operator) api.Operator {
	v := api.Operator{Name: o.Name, Role: string(o.Role), Token: len(o.TokenHash) > 0, Created: o.Created}
	if !o.Rotated.IsZero() {
		v.Rotated = &o.Rotated
	}
	if !o.Expires.IsZero() {
		v.Expires, v.Expired = &o.Expires, o.Expired(time.Now())
	}
	return v
}

// operatorName tells whether s may name an operator. Names of certificates are
// among them: letters, digits and . _ - @.
func operatorName(s string) bool {
	if s == "" || len(s) > 64 || s == Anonymous || s == Local {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-', c == '@':
		default:
			return false
		}
	}
	return true
}

// never is the expiry of one who does not expire.
const never = "never"

func expiry(text string) (time.Time, error) {
	if text == "" || text == never {
		return time.Time{}, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxExpiry {
		return time.Time{}, bad(fmt.Errorf("expiry %.50q: want a duration up to 87600h, such as 720h, or never", text))
	}
	return time.Now().UTC().Add(d).Truncate(time.Second), nil
}

func (s *Server) operators(r *http.Request) (any, error) {
	list, err := s.opts.Catalog.Operators(r.Context())
	if err != nil {
		return nil, err
	}
	out := []api.Operator{}
	for i := range list {
		out = append(out, operatorView(&list[i]))
	}
	return out, nil
}

func (s *Server) addOperator(r *http.Request) (any, error) {
	req, err := body[api.OperatorAdd](r)
	if err != nil {
		return nil, err
	}
	if !operatorName(req.Name) {
		return nil, bad(fmt.Errorf("%.70q is no name for an operator: letters, digits and . _ - @, at most 64", req.Name))
	}
	if !slices.Contains(catalog.Roles(), catalog.Role(req.Role)) {
		return nil, bad(fmt.Errorf("unknown role %.50q: viewer, operator or admin", req.Role))
	}
	list, err := s.opts.Catalog.Operators(r.Context())
	if err != nil {
		return nil, err
	}
	if len(list) >= maxOperators {
		return nil, &api.Error{Status: http.StatusUnprocessableEntity, Code: "refused", Message: fmt.Sprintf("there are %d operators already", len(list))}
	}
	o := catalog.Operator{Name: req.Name, Role: catalog.Role(req.Role), Created: time.Now().UTC().Truncate(time.Second)}
	if o.Expires, err = expiry(req.Expires); err != nil {
		return nil, err
	}
	token := ""
	if !req.Certificate {
		token, o.TokenHash = NewToken()
	}
	if o, err = s.opts.Catalog.PutOperator(r.Context(), o); err != nil {
		if errors.Is(err, catalog.ErrExists) {
			return nil, &api.Error{Status: http.StatusConflict, Code: "exists", Message: fmt.Sprintf("operator %s exists", o.Name),
				Hint: "braid operator rotate gives it a new token"}
		}
		return nil, err
	}
	return s.shownOperator(r.Context(), o, token), nil
}

// rotateOperator gives an operator a new token; the one before is void at once. One
// without a token signs on by a certificate, and gets none unless that is asked for.
// The last admin who does not expire stays one unless that is forced.
func (s *Server) rotateOperator(r *http.Request) (any, error) {
	req, err := body[api.OperatorRotate](r)
	if err != nil {
		return nil, err
	}
	for {
		o, err := s.namedOperator(r)
		if err != nil {
			return nil, err
		}
		permanent := o.Role == catalog.RoleAdmin && o.Expires.IsZero()
		certificate := len(o.TokenHash) == 0 && !req.Token
		switch {
		case certificate && req.Expires == "":
			return nil, &api.Error{Status: http.StatusUnprocessableEntity, Code: "refused",
				Message: fmt.Sprintf("operator %s signs on by a certificate and has no token", o.Name), Hint: "--token gives it one besides"}
		case req.Expires != "":
			if o.Expires, err = expiry(req.Expires); err != nil {
				return nil, err
			}
		case o.Expired(time.Now()):
			return nil, &api.Error{Status: http.StatusUnprocessableEntity, Code: "refused",
				Message: fmt.Sprintf("operator %s has expired", o.Name), Hint: "--expires says how long the new token is to serve"}
		}
		var other *catalog.Operator
		if permanent && !o.Expires.IsZero() && !req.Force {
			if other, err = s.otherAdmin(r.Context(), &o); err != nil {
				return nil, err
			}
		}
		token := ""
		if !certificate {
			token, o.TokenHash = NewToken()
			o.Rotated = time.Now().UTC().Truncate(time.Second)
		}
		o, err = s.opts.Catalog.ReplaceOperator(r.Context(), o, other)
		if errors.Is(err, catalog.ErrConflict) && r.Context().Err() == nil {
			continue // changed meanwhile
		}
		if err != nil {
			return nil, err
		}
		return s.shownOperator(r.Context(), o, token), nil
	}
}

// deleteOperator takes an operator away. The last admin who does not expire stays
// unless that is forced: only who owns a data directory could make another.
func (s *Server) deleteOperator(r *http.Request) (any, error) {
	force := r.URL.Query().Get("force") == "true"
	for {
		o, err := s.namedOperator(r)
		if err != nil {
			return nil, err
		}
		var other *catalog.Operator
		if o.Role == catalog.RoleAdmin && !force {
			if other, err = s.otherAdmin(r.Context(), &o); err != nil {
				return nil, err
			}
		}
		err = s.opts.Catalog.DeleteOperator(r.Context(), o, other)
		if errors.Is(err, catalog.ErrConflict) && r.Context().Err() == nil {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.sawOperators(r.Context())
		return struct{}{}, nil
	}
}

// otherAdmin finds an admin besides o who does not expire, and refuses if there is none.
func (s *Server) otherAdmin(ctx context.Context, o *catalog.Operator) (*catalog.Operator, error) {
	list, err := s.opts.Catalog.Operators(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(x catalog.Operator) bool {
		return x.Name != o.Name && x.Role == catalog.RoleAdmin && x.Expires.IsZero()
	})
	if i < 0 {
		return nil, &api.Error{Status: http.StatusUnprocessableEntity, Code: "refused",
			Message: fmt.Sprintf("%s is the last operator of role admin that does not expire", o.Name), Hint: "--force does it all the same"}
	}
	return &list[i], nil
}

func (s *Server) namedOperator(r *http.Request) (catalog.Operator, error) {
	name := r.PathValue("operator")
	o, err := s.opts.Catalog.Operator(r.Context(), name)
	if errors.Is(err, catalog.ErrNotFound) {
		list, lerr := s.opts.Catalog.Operators(r.Context())
		if lerr != nil {
			return o, lerr
		}
		var known []string
		for _, x := range list {
			known = append(known, x.Name)
		}
		hint := "braid operator list shows who there is"
		if n := nearest.Name(name, known); n != "" {
			hint = fmt.Sprintf("did you mean %q?", n)
		}
		return o, &api.Error{Status: http.StatusNotFound, Code: "unknown", Message: fmt.Sprintf("unknown operator %.70q", name), Hint: hint}
	}
	return o, err
}

// shownOperator is the answer to what made a token, and the only place where it is.
func (s *Server) shownOperator(ctx context.Context, o catalog.Operator, token string) api.OperatorToken {
	s.sawOperators(ctx)
	return api.OperatorToken{Operator: operatorView(&o), Secret: token}
}

// sawOperators waits until this process knows of a change: the next request finds it.
func (s *Server) sawOperators(ctx context.Context) {
	if _, err := s.opts.Watcher.Refresh(ctx); err != nil {
		s.opts.Logger.Debug("refresh after a change of operators", "err", err)
	}
}
