package remote_test

import (
	"context"
	"slices"
	"testing"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/remote"
)

// ends is a store that answers each seal with the same.
type ends struct {
	span.Store
	list []span.End
}

func (s ends) Seal(context.Context, span.Topic) ([]span.End, error) { return s.list, nil }

// Which ends a store has lost records behind is told over the wire, too.
func TestLossyEnds(t *testing.T) {
	s := engine(t, t.TempDir())
	defer s.Close()
	for _, lossy := range [][]bool{{false, false}, {true, true}, {false, true}} {
		var list []span.End
		for p, l := range lossy {
			list = append(list, span.End{Partition: int32(p), Start: 1, End: 2, MaxTimestamp: 3, Lossy: l})
		}
		client := remote.Dial(serve(t, listen(t, "127.0.0.1:0"), ends{s, list}).Addr().String(), token, "here")
		got, err := client.Seal(t.Context(), span.Topic{Name: "t", ID: [16]byte{1}})
		if err != nil || !slices.EqualFunc(got, list, func(a, b span.End) bool { return a.Lossy == b.Lossy && a.End == b.End }) {
			t.Errorf("%+v, %v, want %+v", got, err, list)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}
