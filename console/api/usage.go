package api

import (
	"context"
	"net/url"
	"time"
)

// Usage is what tenants used.
type Usage struct {
	Since   time.Time     `json:"since"` // a whole hour, or day where hours were put together
	Tenants []TenantUsage `json:"tenants"`
}

// TenantUsage is what one tenant used, on all gateways.
type TenantUsage struct {
	Tenant          string  `json:"tenant"`
	ReceivedBytes   int64   `json:"receivedBytes"` // from its clients, frames and all
	SentBytes       int64   `json:"sentBytes"`     // to its clients
	Requests        int64   `json:"requests"`
	Connections     int64   `json:"connections"`     // that were opened
	ConnectionHours float64 `json:"connectionHours"` // connections times hours that they were open
	PartitionHours  float64 `json:"partitionHours"`  // partitions times hours that they existed
	StoredByteHours float64 `json:"storedByteHours"` // bytes of one copy times hours
}

// Usage tells what tenants used from a time on; the zero time is a day ago. One tenant only
// where the client is [Client.Of] one.
func (c *Client) Usage(ctx context.Context, since time.Time) (Usage, error) {
	path := "/usage"
	if !since.IsZero() {
		path += "?since=" + url.QueryEscape(since.UTC().Format(time.RFC3339))
	}
	return get[Usage](ctx, c, path)
}
