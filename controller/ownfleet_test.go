package controller

import (
	"context"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
)

// The fleet itself, by whatever address and as whichever tenant's cluster, is no cluster for it.
func TestAFleetIsNotAddedToItself(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	s, err := f.cat.Register(f.ctx, catalog.Gateway{Node: 1, Listeners: []catalog.Listener{
		{Name: "in", Advertise: "gateway-1:9092"}, {Name: "out", Advertise: "braid.example.org:443"}}}, patience)
	f.check(err)
	t.Cleanup(func() { f.check(s.Close(context.Background())) })
	for name, id := range map[string]string{"itself": f.cat.ClusterID(), "tenants": "of-acme", "other": "somebody-elses"} {
		f.doubles[name] = newDouble(name)
		f.doubles[name].id = id
	}
	_, err = f.cat.CreateTenant(f.ctx, catalog.Tenant{Name: "acme", ClusterID: "of-acme", Created: time.Now()})
	f.check(err)
	add := func(name string, bootstrap ...string) error {
		_, err := f.admin.AddCluster(f.ctx, ClusterSpec{Name: name, Bootstrap: bootstrap})
		return err
	}
	wantProblem(t, add("other", "broker-1:9092", "braid.example.org:443"), Refused, "braid.example.org:443 is a gateway of this fleet")
	wantProblem(t, add("itself", "proxy:9092"), Refused, "this fleet itself")
	wantProblem(t, add("tenants", "proxy:9092"), Refused, "this fleet itself")
	f.check(add("other", "broker-1:9092"))
}
