package chain

import (
	"testing"

	"github.com/braidstream/braid/catalog"
)

func TestSizeOfAChain(t *testing.T) {
	lies := func(topic byte, partition int32) catalog.Span {
		return catalog.Span{Copies: []catalog.Copy{{TopicID: [16]byte{topic}, Partition: partition}}}
	}
	lost := lies(1, 0)
	lost.Copies[0].Unreadable = true
	second := lies(9, 0)
	second.Copies = append([]catalog.Copy{lost.Copies[0]}, lies(2, 0).Copies...)
	found := map[[16]byte][]int64{{1}: {10, 20}, {2}: {300, -1}}
	for _, c := range []struct {
		name  string
		spans []catalog.Span
		want  int64
	}{
		{"no span", nil, 0},
		{"one", []catalog.Span{lies(1, 1)}, 20},
		{"all spans count", []catalog.Span{lies(1, 1), lies(2, 0)}, 320},
		{"the copy that is read", []catalog.Span{second}, 300},
		{"one is not measured", []catalog.Span{lies(1, 0), lies(2, 1)}, -1},
		{"one has no such partition", []catalog.Span{lies(1, 0), lies(1, 2)}, -1},
		{"its cluster is away", []catalog.Span{lies(1, 0), lies(3, 0)}, -1},
		{"nothing of it can be read", []catalog.Span{lies(1, 0), lost}, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if n := sizeOf(&catalog.Chain{Spans: c.spans}, found); n != c.want {
				t.Fatalf("%d bytes, want %d", n, c.want)
			}
		})
	}
}
