package main

import (
	"log/slog"
	"testing"
)

// TestShareDescriptors: connections never take what the engines and the catalog need.
func TestShareDescriptors(t *testing.T) {
	for _, c := range []struct {
		limit             uint64
		gateways, engines int
		want              descriptors
	}{
		{1 << 20, 1, 2, descriptors{1<<20 - 512 - 2*544, 512}},
		{1 << 20, 2, 0, descriptors{(1<<20 - 512) / 2, 512}},
		{1<<64 - 1, 1, 1, descriptors{1<<30 - 512 - 544, 512}},
		{4096, 1, 2, descriptors{4096 - 512 - 2*544, 512}},
		{1024, 1, 1, descriptors{512, 224}},
		{1024, 0, 0, descriptors{512, 512}},
		{256, 1, 1, descriptors{128, 32}},
		{256, 3, 3, descriptors{42, 16}},
		{1, 3, 3, descriptors{1, 16}},
	} {
		if got := shareDescriptors(c.limit, c.gateways, c.engines); got != c.want {
			t.Errorf("%d descriptors, %d gateways, %d engines: %+v, want %+v", c.limit, c.gateways, c.engines, got, c.want)
		}
	}
}

// TestConnectionsFitTheDescriptors: what the system allows bounds max.connections, set or not.
func TestConnectionsFitTheDescriptors(t *testing.T) {
	for _, set := range []int{0, 7, 1 << 40} {
		p := process{cfg: upConfig{Gateways: 1}, logger: slog.New(slog.DiscardHandler)}
		p.settings.Gateway.MaxConnections = set
		if err := p.limitDescriptors(); err != nil {
			t.Fatal(err)
		}
		got := p.settings.Gateway.MaxConnections
		switch {
		case set == 7 && got != 7, set == 1<<40 && got != p.share.connections, set == 0 && got != 0 && got != p.share.connections:
			t.Errorf("max.connections %d becomes %d of %+v", set, got, p.share)
		}
	}
}
