package gateway

import (
	"testing"
	"time"

	"github.com/braidstream/braid/internal/clients"
)

// Each family of clients, unmodified, produces and consumes in a group, whatever
// stands behind the gateways.
func TestEachClientFamily(t *testing.T) {
	t.Parallel()
	// kafka-python 3.0 joins before it has the topic's metadata, joins again when
	// it has, and loses that second assignment if its poll ends just then. Kafka's
	// own delay of 3 s hides it; this is enough.
	patient := func(c *fleetConfig) { c.rebalance = time.Second }
	for _, c := range []struct {
		name  string
		fleet func(t *testing.T) *fleet
	}{
		{"local", func(t *testing.T) *fleet { return newFleet(t, gateways(2), patient) }},
		{"kafka", func(t *testing.T) *fleet { return newFleet(t, gateways(2), onKafka(t), patient) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.fleet(t)
			for i, family := range clients.Families() {
				t.Run(string(family), func(t *testing.T) {
					t.Parallel()
					topic := "family-" + string(family)
					f.topic(topic, 4)
					r := clients.Run(t, family, clients.Options{
						Bootstrap: f.addr(0), Topic: topic, Partitions: 4, Producer: int32(i), Count: 400, Rate: 1000,
						Timeout: 4 * time.Minute,
					})
					if !r.OK() || !r.Complete() || r.Acknowledged != 400 || r.Found != 400 {
						t.Fatalf("\n%s", &r)
					}
				})
			}
		})
	}
}
