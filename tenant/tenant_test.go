package tenant

import "testing"

func TestPrincipalString(t *testing.T) {
	if got := Anonymous().String(); got != "User:ANONYMOUS" {
		t.Errorf("got %q", got)
	}
}
