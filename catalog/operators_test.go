package catalog

import (
	"errors"
	"strings"
	"testing"
)

func TestOperators(t *testing.T) {
	c := open(t)
	w := watch(t, c, "nobody's")
	a := must(c.PutOperator(t.Context(), Operator{Name: "a@" + RandomName(4), Role: RoleAdmin, TokenHash: []byte("one")}))(t)
	b := must(c.PutOperator(t.Context(), Operator{Name: "b@" + RandomName(4), Role: RoleAdmin}))(t)
	if _, err := c.PutOperator(t.Context(), Operator{Name: a.Name}); !errors.Is(err, ErrExists) {
		t.Errorf("a second of the name: %v", err)
	}
	s := must(w.Refresh(t.Context()))(t)
	if o := s.Operator(a.Name); o == nil || o.Role != RoleAdmin || o.Revision != a.Revision || s.OperatorByToken([]byte("one")) != o {
		t.Errorf("in the snapshot: %v", o)
	}
	if s.OperatorByToken(nil) != nil || s.OperatorByToken([]byte{}) != nil {
		t.Error("no token is somebody's")
	}
	changed := must(c.PutOperator(t.Context(), b))(t)
	for what, err := range map[string]error{
		"read before a change":           c.DeleteOperator(t.Context(), b, nil),
		"the other changed":              c.DeleteOperator(t.Context(), a, &b),
		"the other is of another moment": c.DeleteOperator(t.Context(), changed, &Operator{Name: a.Name, Revision: 1}),
	} {
		if !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := c.DeleteOperator(t.Context(), a, &changed); err != nil {
		t.Error(err)
	}
	if err := c.DeleteOperator(t.Context(), changed, &a); !errors.Is(err, ErrConflict) {
		t.Errorf("the other is gone: %v", err)
	}
	if s = must(w.Refresh(t.Context()))(t); s.Operator(a.Name) != nil || s.Operator(b.Name) == nil {
		t.Error("the snapshot does not follow")
	}
	if err := c.DeleteOperator(t.Context(), changed, nil); err != nil {
		t.Error(err)
	}
}

func TestRoles(t *testing.T) {
	for _, x := range []struct {
		has, need Role
		want      bool
	}{
		{RoleViewer, RoleViewer, true}, {RoleViewer, RoleOperator, false}, {RoleOperator, RoleViewer, true}, {RoleOperator, RoleAdmin, false},
		{RoleAdmin, RoleAdmin, true}, {RoleAdmin, "", false}, {"", "", false}, {"", RoleViewer, false}, {"root", RoleViewer, false}, {RoleAdmin, "root", false},
	} {
		if x.has.Allows(x.need) != x.want {
			t.Errorf("%q for what needs %q: %t", x.has, x.need, !x.want)
		}
	}
}

func TestUserNames(t *testing.T) {
	for name, good := range map[string]bool{
		"alice": true, "a b": true, "CN=ünï,O=x": true, "alice@acme": true, "日本": true, strings.Repeat("x", MaxUserName): true,
		"": false, "*": false, "ANONYMOUS": false, " alice": false, "alice ": false, "a  b": false, "a\tb": false, "a\x00b": false, "a\nb": false, "a\u00a0b": false,
		"ali\u200bce": false, "\u202ealice": false, "alice\ufeff": false, "a\u00adb": false, "a\u3164b": false, "a\xffb": false, "a\ufe0f": false, "a\U000e0041": false,
		strings.Repeat("x", MaxUserName+1): false, strings.Repeat("x", 10<<10): false,
	} {
		if err := CheckUserName(name); (err == nil) != good {
			t.Errorf("%.40q: %v", name, err)
		}
	}
}
