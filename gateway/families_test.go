package gateway

import (
	"testing"
	"time"

	"github.com/braidstream/braid/internal/clients"
)

// Each family of clients, unmodified, produces and consumes in a group.
func TestEachClientFamily(t *testing.T) {
	f := newFleet(t, gateways(2))
	for i, family := range clients.Families() {
		t.Run(string(family), func(t *testing.T) {
			topic := "family-" + string(family)
			f.topic(topic, 4)
			r := clients.Run(t, family, clients.Options{
				Bootstrap: f.addr(0), Topic: topic, Partitions: 4, Producer: int32(i), Count: 400, Rate: 1000,
				Timeout: 60 * time.Second,
			})
			if !r.OK() || !r.Complete() || r.Acknowledged != 400 || r.Found != 400 {
				t.Fatalf("\n%s", &r)
			}
		})
	}
}
