package tenant

import (
	"testing"

	"github.com/braidstream/braid/catalog"
)

func TestSingleResolvesToDefault(t *testing.T) {
	for _, c := range []Connection{{}, {Listener: "external", ServerName: "a.example", Principal: Principal{"User", "alice"}}} {
		got, err := Single{}.Resolve(c)
		if err != nil || got.Name != catalog.DefaultTenant {
			t.Errorf("Resolve(%+v) = %+v, %v", c, got, err)
		}
	}
}

func TestPrincipalString(t *testing.T) {
	if got := Anonymous().String(); got != "User:ANONYMOUS" {
		t.Errorf("got %q", got)
	}
}
