package gateway

import (
	"errors"
	"testing"
	"time"

	"github.com/braidstream/braid/wire"
)

func TestTokensWithoutHeaderCountTheirBytes(t *testing.T) {
	t.Parallel()
	c := &conn{auth: &auth{phase: phaseTokens, raw: true, other: true, bytes: preAuthBytes - 10}}
	token := wire.NewBuffer(11)
	token.B = append(token.B[:0], "01234567890"...)
	if err := c.rawToken(token, time.Now()); !errors.Is(err, errAuthEffort) {
		t.Error(err)
	}
}
