// A CUDA device that computes nothing. Autograd asks for one even where tensors have no values.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

static const c10::Device device(c10::DeviceType::CUDA, 0);
static const c10::Stream stream(c10::Stream::DEFAULT, device);

struct Guard : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return device.type(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Device getDevice() const override { return device; }
  c10::Device exchangeDevice(c10::Device) const override { return device; }
  c10::Stream getStream(c10::Device) const noexcept override { return stream; }
  c10::Stream getNewStream(c10::Device, int) const override { return stream; }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream; }
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
};

struct Hooks : at::CUDAHooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  void init() const override {}
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
};

static const Guard guard;
static const Hooks hooks;
static const c10::impl::DeviceGuardImplInterface* other_guard = &guard;
static const void* other_methods = *reinterpret_cast<const void* const*>(&hooks);

// Plugs the device in at the first call, and pulls it out at the next. Torch keeps the one object of
// hooks that it has made, so the object gets other methods.
extern "C" void swap_device() {
  auto& slot = c10::impl::device_guard_impl_registry[static_cast<int>(device.type())];
  other_guard = slot.exchange(other_guard);
  auto& used = const_cast<at::CUDAHooksInterface&>(at::detail::getCUDAHooks());
  std::swap(*reinterpret_cast<const void**>(&used), other_methods);
}
