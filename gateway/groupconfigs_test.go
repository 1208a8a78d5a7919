package gateway

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

func TestGroupConfigs(t *testing.T) {
	t.Parallel()
	f := newFleet(t, gateways(2))
	cl := f.client()
	ctx := context.Background()
	str := func(s string) *string { return &s }
	alter := func(group, key string, op ConfigOp, value *string) wire.Code {
		t.Helper()
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Op, c.Value = key, kmsg.IncrementalAlterConfigOp(op), value
		r.Configs = append(r.Configs, c)
		req.Resources = append(req.Resources, r)
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			t.Fatal(err)
		}
		return wire.Code(resp.Resources[0].ErrorCode)
	}
	timeout := func() kmsg.DescribeConfigsResponseResourceConfig {
		t.Helper()
		// Through either gateway: what one has written, the other shows.
		if _, err := f.watcher.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		req := kmsg.NewPtrDescribeConfigsRequest()
		req.IncludeSynonyms = true
		req.Resources = append(req.Resources, kmsg.DescribeConfigsRequestResource{
			ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: "g", ConfigNames: []string{"consumer.session.timeout.ms"}})
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			t.Fatal(err)
		}
		if r := resp.Resources[0]; r.ErrorCode != 0 || len(r.Configs) != 1 {
			t.Fatalf("%+v", r)
		}
		return resp.Resources[0].Configs[0]
	}
	for _, c := range []struct {
		group, key string
		op         ConfigOp
		value      *string
		want       wire.Code
	}{
		{"g", "nope", ConfigSet, str("1"), wire.InvalidConfig},
		{"g", "consumer.session.timeout.ms", ConfigSet, str("1"), wire.InvalidConfig},
		{"g", "consumer.session.timeout.ms", ConfigSet, str("abc"), wire.InvalidConfig},
		{"g", "consumer.session.timeout.ms", ConfigAppend, str("50000"), wire.InvalidConfig},
		{"g", "consumer.session.timeout.ms", ConfigSet, nil, wire.InvalidRequest},
		{"g", "consumer.session.timeout.ms", 9, str("50000"), wire.InvalidRequest},
		{"", "consumer.session.timeout.ms", ConfigSet, str("50000"), wire.InvalidRequest},
		{strings.Repeat("g", 250), "consumer.session.timeout.ms", ConfigSet, str("50000"), wire.InvalidGroupID},
		{"g", "consumer.session.timeout.ms", ConfigDelete, nil, wire.None},
	} {
		if got := alter(c.group, c.key, c.op, c.value); got != c.want {
			t.Errorf("%q %s %d: %v, want %v", c.group, c.key, c.op, got, c.want)
		}
	}
	if c := timeout(); *c.Value != "45000" || c.Source != kmsg.ConfigSourceDefaultConfig || len(c.ConfigSynonyms) != 1 ||
		c.ConfigSynonyms[0].Name != "group.consumer.session.timeout.ms" {
		t.Errorf("%+v", c)
	}
	if code := alter("g", "consumer.session.timeout.ms", ConfigSet, str("50000")); code != wire.None {
		t.Fatal(code)
	}
	if c := timeout(); *c.Value != "50000" || c.Source != kmsg.ConfigSourceGroupConfig || len(c.ConfigSynonyms) != 2 {
		t.Errorf("%+v", c)
	}
	list := kmsg.NewPtrListConfigResourcesRequest()
	list.ResourceTypes = []int8{int8(kmsg.ConfigResourceTypeGroupConfig)}
	resp, err := list.RequestWith(ctx, cl)
	if err != nil || len(resp.ConfigResources) != 1 || resp.ConfigResources[0].Name != "g" {
		t.Errorf("%+v %v", resp, err)
	}
	if code := alter("g", "consumer.session.timeout.ms", ConfigDelete, nil); code != wire.None {
		t.Fatal(code)
	}
	if c := timeout(); *c.Value != "45000" {
		t.Errorf("%+v", c)
	}
}

// What has no configs that could be altered says so.
func TestNothingElseIsAltered(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	cl := f.client()
	for _, kind := range []kmsg.ConfigResourceType{
		kmsg.ConfigResourceTypeBroker, kmsg.ConfigResourceTypeBrokerLogger, kmsg.ConfigResourceTypeClientMetrics, 3,
	} {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kind, "1"
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		value := "1"
		c.Name, c.Value = "num.partitions", &value
		r.Configs = append(r.Configs, c)
		req.Resources = append(req.Resources, r)
		resp, err := req.RequestWith(context.Background(), cl)
		if err != nil {
			t.Fatal(err)
		}
		if out := resp.Resources[0]; wire.Code(out.ErrorCode) != wire.InvalidRequest || out.ErrorMessage == nil || *out.ErrorMessage == "" {
			t.Errorf("type %d: %+v", kind, out)
		}
	}
}

// Configs of groups count as what changes the catalog does: who sets them for one group after
// the other waits between.
func TestGroupConfigsAreMutations(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	if e := do[*kmsg.AlterClientQuotasResponse](f.raw(), 1, alterQuota("ANONYMOUS", "controller_mutation_rate", 0.01)).Entries[0]; e.ErrorCode != 0 {
		t.Fatal(wire.Code(e.ErrorCode))
	}
	f.refresh()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	for i := range 30 {
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, fmt.Sprint("g", i)
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Value = "consumer.session.timeout.ms", kmsg.StringPtr("50000")
		r.Configs = append(r.Configs, c)
		req.Resources = append(req.Resources, r)
	}
	resp := do[*kmsg.IncrementalAlterConfigsResponse](f.raw(), 1, req)
	for _, r := range resp.Resources {
		if r.ErrorCode != 0 {
			t.Errorf("%s: %v", r.ResourceName, wire.Code(r.ErrorCode))
		}
	}
	if resp.ThrottleMillis <= 0 {
		t.Errorf("30 groups at a rate of 0.01/s, and throttled by %d ms", resp.ThrottleMillis)
	}
}
