package gateway

// DescribeCluster, key 60, versions 0 to 2.
//
// Differences: brokers are the live gateways, as in Metadata; none is ever
// fenced. Controllers (endpoint type 2) are asked for at controllers only.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

func describeCluster(call *call, req *kmsg.DescribeClusterRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeClusterResponse()
	resp.ClusterAuthorizedOperations = notAsked
	resp.ControllerID = -1
	resp.EndpointType = 1
	if req.Version >= 1 && req.EndpointType != 1 {
		code := wire.UnsupportedEndpointType
		if req.EndpointType == 2 {
			code = wire.MismatchedEndpointType
		}
		message := code.Message()
		resp.ErrorCode, resp.ErrorMessage = call.failed(code), &message
		return resp
	}
	v := call.c.view()
	resp.ClusterID = call.g.clusterID(call.tenant)
	resp.ControllerID = v.brokers.controller(call.tenant)
	for i := range v.brokers.list {
		b := &v.brokers.list[i]
		out := kmsg.NewDescribeClusterResponseBroker()
		out.NodeID, out.Host, out.Port = b.node, b.host, b.port
		if b.rack != "" {
			out.Rack = &b.rack
		}
		resp.Brokers = append(resp.Brokers, out)
	}
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = call.clusterOperations()
	}
	return resp
}
