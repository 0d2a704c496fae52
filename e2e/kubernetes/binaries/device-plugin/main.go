// Advertises devices that do not exist to a kubelet, so that pods that ask for GPUs can be scheduled,
// counted and started on a machine without one.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

type plugin struct {
	api.UnimplementedDevicePluginServer
	devices []*api.Device
	env     string
	stop    <-chan struct{}
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (p *plugin) ListAndWatch(_ *api.Empty, stream grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	if err := stream.Send(&api.ListAndWatchResponse{Devices: p.devices}); err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
	case <-p.stop:
	}
	return nil
}

// Allocate gives a container nothing but the names of its devices, in the variable that NVIDIA's plugin sets.
func (p *plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	response := &api.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		names := ""
		for index, id := range container.DevicesIds {
			if index > 0 {
				names += ","
			}
			names += id
		}
		response.ContainerResponses = append(response.ContainerResponses, &api.ContainerAllocateResponse{
			Envs: map[string]string{p.env: names},
		})
	}
	return response, nil
}

// register tells the kubelet where the plugin listens.
func register(ctx context.Context, kubelet, endpoint, resource string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	connection, err := grpc.NewClient("unix://"+kubelet, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = api.NewRegistrationClient(connection).Register(ctx, &api.RegisterRequest{
		Version:      api.Version,
		Endpoint:     endpoint,
		ResourceName: resource,
		Options:      &api.DevicePluginOptions{},
	})
	return err
}

func run() error {
	directory := flag.String("directory", api.DevicePluginPath, "the kubelet's folder of plugin sockets")
	resource := flag.String("resource", "nvidia.com/gpu", "name of the resource")
	count := flag.Int("count", 1, "how many there are")
	env := flag.String("env", "NVIDIA_VISIBLE_DEVICES", "variable in which a container reads which it got")
	flag.Parse()

	devices := make([]*api.Device, 0, *count)
	for index := range *count {
		devices = append(devices, &api.Device{ID: fmt.Sprintf("simulated-%d", index), Health: api.Healthy})
	}
	name := fmt.Sprintf("simulated-%d.sock", os.Getpid())
	path := filepath.Join(*directory, name)
	kubelet := filepath.Join(*directory, "kubelet.sock")

	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	// A kubelet that starts empties the folder and forgets its plugins: then all of this happens again.
	for ctx.Err() == nil {
		listener, err := net.Listen("unix", path)
		if err != nil {
			return fmt.Errorf("listen at %s: %w", path, err)
		}
		stop := make(chan struct{})
		server := grpc.NewServer()
		api.RegisterDevicePluginServer(server, &plugin{devices: devices, env: *env, stop: stop})
		go func() {
			if err := server.Serve(listener); err != nil {
				log.Printf("serving %s: %v", path, err)
			}
		}()
		registered := false
		for ctx.Err() == nil {
			if _, err := os.Stat(path); err != nil {
				break
			}
			if !registered {
				if err := register(ctx, kubelet, name, *resource); err != nil {
					log.Printf("registering with %s: %v", kubelet, err)
				} else {
					registered = true
					log.Printf("%d of %s registered with %s", *count, *resource, kubelet)
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
		close(stop)
		server.Stop()
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
