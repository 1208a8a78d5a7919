package coordinator

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// steady is a gateway with groups of 3 members that are stable.
func steady(b *testing.B, groups int) (*Coordinator, []*kmsg.HeartbeatRequest) {
	b.Helper()
	f := newFleet(b, 50, Config{InitialRebalanceDelay: time.Second})
	c := f.join(1).c
	eventually(b, "served", func() bool { return f.ready(1) })
	ctx := context.Background()
	join := func(group, id string) *kmsg.JoinGroupRequest {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.MemberID = 9, group, id
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = 1_000_000, 1_000_000, "consumer"
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = "range", subscribe("topic")
		req.Protocols = append(req.Protocols, p)
		return req
	}
	type joined struct {
		group string
		resp  *kmsg.JoinGroupResponse
	}
	answers := make(chan joined, 3*groups)
	for g := range groups {
		group := fmt.Sprint("group-", g)
		var ids []string
		for range 3 {
			ids = append(ids, c.JoinGroup(ctx, caller, join(group, "")).MemberID)
		}
		for _, id := range ids {
			c.JoinGroupAsync(caller, join(group, id), func(r *kmsg.JoinGroupResponse) { answers <- joined{group, r} })
		}
	}
	var beats []*kmsg.HeartbeatRequest
	for range 3 * groups {
		j := <-answers
		if j.resp.ErrorCode != 0 {
			b.Fatal(j.resp.ErrorCode)
		}
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Version, beat.Group, beat.MemberID, beat.Generation = 4, j.group, j.resp.MemberID, j.resp.Generation
		beats = append(beats, beat)
		if j.resp.LeaderID != j.resp.MemberID {
			continue
		}
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Version, sync.Group, sync.MemberID, sync.Generation = 4, j.group, j.resp.MemberID, j.resp.Generation
		if r := c.SyncGroup(ctx, caller, sync); r.ErrorCode != 0 {
			b.Fatal(r.ErrorCode)
		}
	}
	return c, beats
}

// BenchmarkHeartbeat: 1,000 groups of 3 members send 1,000 of these a second.
func BenchmarkHeartbeat(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	c, beats := steady(b, 1000)
	runtime.GC()
	runtime.ReadMemStats(&after)
	ctx := context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if r := c.Heartbeat(ctx, caller, beats[i%len(beats)]); r.ErrorCode != 0 {
			b.Fatal(r.ErrorCode)
		}
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB/1000groups")
}

func BenchmarkOffsetCommit(b *testing.B) {
	f := newFleet(b, 50, Config{})
	c := f.join(1).c
	eventually(b, "served", func() bool { return f.ready(1) })
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if code := commitOffset(c, fmt.Sprint("g", i%1000), "topic", int32(i%8), int64(i)); code != 0 {
				b.Error(code)
			}
		}
	})
}

// BenchmarkHandOver: 50 shards with 1,000 groups go from a gateway that stops to another
// one. The goal is 200 ms until the last of them is served again.
func BenchmarkHandOver(b *testing.B) {
	f := newFleet(b, 50, Config{})
	owner := f.join(1)
	eventually(b, "served", func() bool { return f.ready(1) })
	for g := range 1000 {
		if code := commitOffset(owner.c, fmt.Sprint("g", g), "topic", 0, 7); code != 0 {
			b.Fatal(code)
		}
	}
	b.ResetTimer()
	for i := range b.N {
		node := int32(i + 2)
		b.StopTimer()
		next := f.join(node)
		eventually(b, "shared", func() bool { return f.ready(node-1, node) })
		b.StartTimer()
		owner.stop()
		eventually(b, "handed over", func() bool { return f.ready(node) })
		owner = next
	}
}
