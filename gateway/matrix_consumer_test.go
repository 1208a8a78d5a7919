package gateway

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
)

// consumerGroupRequests are those of TestMatrix for the keys of KIP-848.
func consumerGroupRequests() map[int16]func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
	return map[int16]func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error){
		keyConsumerGroupHeartbeat: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
			req.Group, req.MemberID, req.RebalanceTimeoutMillis = fmt.Sprint("consumer-", v), "member", 60_000
			req.Topics, req.SubscribedTopicNames = []kmsg.ConsumerGroupHeartbeatRequestTopic{}, []string{}
			if v >= 1 {
				req.SubscribedTopicRegex = kmsg.StringPtr("matri.")
			} else {
				req.SubscribedTopicNames = []string{"matrix"}
			}
			return req, func(resp kmsg.Response) error {
				r := resp.(*kmsg.ConsumerGroupHeartbeatResponse)
				if r.ErrorCode != 0 || r.MemberEpoch != 2 || r.Assignment == nil || len(r.Assignment.Topics) != 1 || r.HeartbeatIntervalMillis != 5000 {
					return fmt.Errorf("%+v", r)
				}
				return nil
			}
		},
		keyConsumerGroupDescribe: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrConsumerGroupDescribeRequest()
			req.Groups, req.IncludeAuthorizedOperations = []string{"consumer-1", "simple"}, true
			return req, func(resp kmsg.Response) error {
				g := resp.(*kmsg.ConsumerGroupDescribeResponse).Groups
				if len(g) != 2 || g[0].State != "Stable" || len(g[0].Members) != 1 || g[0].AuthorizedOperations != acl.Supported(acl.Group) ||
					g[0].Members[0].Assignment.TopicPartitions[0].Topic != "matrix" || g[1].ErrorCode != 69 {
					return fmt.Errorf("%+v", g)
				}
				return nil
			}
		},
	}
}
