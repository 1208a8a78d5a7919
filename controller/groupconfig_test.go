package controller

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/rules"
	"github.com/braidstream/braid/wire"
)

func (f *fleet) groupConfig(tenant, group string, op gateway.ConfigOp, validateOnly bool) error {
	return f.admin.AlterGroupConfig(f.ctx, gateway.ConfigAlter{Tenant: tenant, Name: group, ValidateOnly: validateOnly,
		Changes: []gateway.ConfigChange{{Key: "consumer.session.timeout.ms", Op: op, Value: "50000"}}})
}

// Configs of groups that need not exist are bounded by what the tenant may have of groups: many at once
// are not more, other tenants have their own room, and who removes some may set others.
func TestGroupConfigsAreBounded(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.tenant("one", TenantChange{Limits: map[string]int64{"groups": 5}})
	f.tenant("two", TenantChange{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := map[string]bool{}
	for i := range 20 {
		wg.Go(func() {
			name := fmt.Sprint("g", i)
			err := f.groupConfig("one", name, gateway.ConfigSet, false)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made[name] = true
				return
			}
			wantCode(t, err, wire.PolicyViolation, "at most 5")
		})
	}
	wg.Wait()
	if len(made) != 5 {
		t.Fatalf("configs of %d groups were set, the limit is 5", len(made))
	}
	wantCode(t, f.groupConfig("one", "more", gateway.ConfigSet, true), wire.PolicyViolation, "at most 5")
	f.check(f.groupConfig("two", "more", gateway.ConfigSet, false))
	for name := range made {
		f.check(f.groupConfig("one", name, gateway.ConfigSet, false))
		f.check(f.groupConfig("one", name, gateway.ConfigDelete, false))
		break
	}
	f.check(f.groupConfig("one", "more", gateway.ConfigSet, false))
	var rejected *span.RejectedError
	if err := f.groupConfig("one", "yet-more", gateway.ConfigSet, false); !errors.As(err, &rejected) {
		t.Errorf("a sixth: %v", err)
	}
}

// Every kind of record in the catalog that a tenant's requests make has something that bounds it. A
// kind that is new in the catalog's layout needs a line here.
func TestEveryRecordOfATenantIsBounded(t *testing.T) {
	t.Parallel()
	layout, err := os.ReadFile("../catalog/keys.go")
	if err != nil {
		t.Fatal(err)
	}
	const (
		topics  = "goes with topics: the tenant's limits of topics and partitions, and controller_mutation_rate"
		process = "made by Braid's own processes, as many as there are of what they tell of"
		one     = "one for each tenant"
	)
	bounds := map[string]struct {
		by   string
		most int // where it is a number
	}{
		"t/topic":          {topics, 0},
		"t/extend":         {topics, 0},
		"t/group":          {"the tenant's limit of groups, and", catalog.MaxGroupConfigs},
		"t/user":           {"users of a tenant", catalog.MaxUsers},
		"t/acl":            {"rules of a tenant; rules.MaxACLBytes", rules.MaxACLs},
		"t/rules":          {one, 1},
		"t/quota":          {"entities of a tenant; rules.MaxQuotaBytes", rules.MaxQuotas},
		"t/share":          {one, 1},
		"d/name":           {topics, 0},
		"d/bare":           {"users of a tenant, one for each at most", catalog.MaxUsers},
		"d/retired":        {one, 1},
		"d/op":             {"operators' requests, and one for each return or repair of a cluster; no client makes any", 0},
		"d/certificate":    {topics + ", and operators' moves", 0},
		"d/certify":        {topics, 0},
		"d/postponed":      {topics, 0},
		"d/ack":            {topics + "; folded into one for each span", 0},
		"d/hold":           {topics, 0},
		"d/alarm":          {topics, 0},
		"d/producers":      {topics + ", and as many producers as a span knows", 0},
		"d/use":            {process, 0},
		"d/meter":          {process, 0},
		"d/torn":           {"parts of transactions that a cluster aborted while it was away; kept for a week", 0},
		"d/revoked":        {process, 0},
		"d/term":           {process, 0},
		"d/node":           {process, 0},
		"d/counter":        {process, 0},
		"d/token":          {"one for the fleet", 1},
		"d/producer-order": {"one for the fleet", 1},
		"d/election":       {process, 0},
	}
	found := map[string]bool{}
	for _, line := range regexp.MustCompile(`(?m)^//\t([td]/.*)$`).FindAllStringSubmatch(string(layout), -1) {
		for _, key := range regexp.MustCompile(`\b([td])/(?:<tenant>/)?([a-z-]+)`).FindAllStringSubmatch(strings.Split(line[1], "  ")[0], -1) {
			kind := key[1] + "/" + key[2]
			found[kind] = true
			if b, ok := bounds[kind]; !ok || b.by == "" {
				t.Errorf("nothing is said of what bounds %s", kind)
			}
		}
	}
	for kind := range bounds {
		if !found[kind] {
			t.Errorf("%s is not in the catalog's layout", kind)
		}
	}
}
