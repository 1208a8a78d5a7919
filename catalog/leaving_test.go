package catalog

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestLeave: who ends does not wait for a catalog that is away, however patient it was before; one that
// answers is given all the time.
func TestLeave(t *testing.T) {
	e := must(StartEmbedded(t.Context(), EmbeddedConfig{Dir: t.TempDir(), NoSync: true, Logger: quiet()}))(t)
	c := must(Connect(t.Context(), Config{Endpoints: e.Endpoints(), AnswerTimeout: time.Hour, Logger: quiet()}))(t)
	defer func() { _ = c.Close() }()
	s := must(c.Register(t.Context(), Gateway{Node: 1}, time.Hour))(t)
	c.Leave()
	if _, err := c.Gateways(t.Context()); err != nil {
		t.Errorf("with the catalog there: %v", err)
	}
	call, cancel := c.bounded(t.Context())
	if until, ok := call.Deadline(); !ok || time.Until(until) < lastTry {
		t.Errorf("a catalog that answers is given until %v", until)
	}
	cancel()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	for range 3 {
		if _, err := c.Gateways(ctx); !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			t.Errorf("without it: %v", err)
		}
	}
	if err := s.Close(ctx); !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
		t.Errorf("end of the session: %v", err)
	}
}
