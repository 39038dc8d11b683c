"""The classes of PASCAL VOC segmentation in index order, as its files write them; 255 is the contour, left out.

Source: Everingham et al., the PASCAL Visual Object Classes challenge, development kit 2012, section 5.
"""

VOC_CLASSES: tuple[str, ...] = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
