package kafka_test

import (
	"testing"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/spantest"
)

func TestConformance(t *testing.T) {
	for name, opts := range map[string][]testkit.Option{
		"4.3 one node":    nil,
		"3.9 one node":    {testkit.Version(testkit.Kafka39)},
		"4.3 three nodes": {testkit.Nodes(3)},
	} {
		t.Run(name, func(t *testing.T) {
			c := testkit.Shared(t, opts...)
			spantest.Run(t, func(t *testing.T) span.Store { return open(t, c) }, spantest.Capabilities{})
		})
	}
}
